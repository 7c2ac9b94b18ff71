"""Which experts every MoE layer of a checkpoint keeps: a selection, held against the model."""

from collections import Counter

from easyep.artifacts.selection import Selection
from easyep.checkpoint.layout import Layout
from easyep.errors import SelectionError
from easyep.registry import unknown_name

MTP_MODES = ("score", "follow", "drop")


def kept_experts(layout: Layout, selection: Selection, mtp: str) -> dict[int, tuple[int, ...]]:
    """The kept experts of every MoE layer that will be written, in ascending order.

    Args:
        layout: what the checkpoint holds.
        selection: which experts stay.
        mtp: ``"score"``, ``"follow"`` or ``"drop"`` (see `planning.plan`).

    Raises:
        UnknownNameError: `mtp` is none of the three.
        SelectionError: the selection is not one of this model, or the router could not work
            with it.
    """
    if mtp not in MTP_MODES:
        raise unknown_name("MTP mode", mtp, MTP_MODES)
    router = layout.router
    if selection.num_experts != router.num_experts:
        raise SelectionError(
            f"the selection chooses among {selection.num_experts} experts per layer, the model has "
            f"{router.num_experts}; select again from observations of this model"
        )
    router.check_keep(selection.keep, selection.groups)
    needed = (*layout.moe_layers, *layout.second_layers)
    missing = [layer for layer in needed if layer not in selection.layers]
    surplus = sorted(set(selection.layers) - set(layout.layers))
    if missing or surplus:
        what = f"lacks {layout.called(missing[0])}" if missing else f"names layer {surplus[0]}"
        layers = ", ".join(map(str, layout.layers))
        raise SelectionError(
            f"the selection {what}; the model's layers with routed experts are {layers}"
        )
    kept = {layer: tuple(selection.layers[layer]) for layer in needed}
    for layer in layout.mtp_layers if mtp != "drop" else ():
        if mtp == "follow":
            kept[layer] = kept[layout.moe_layers[-1]]
        elif layer in selection.layers:
            kept[layer] = tuple(selection.layers[layer])
        else:
            raise SelectionError(
                f"the model has an MTP layer ({layer}) with experts of its own, which the "
                "selection does not name; observe with --mtp score, or choose --mtp follow (the "
                "selection of the last layer) or --mtp drop (leave MTP out)"
            )
    if selection.groups == "balanced" and router.n_group > 1:
        for layer, experts in kept.items():
            counts = Counter(router.group_of(expert) for expert in experts)
            if len({counts[group] for group in range(router.n_group)}) > 1:
                raise SelectionError(
                    f"layer {layer} keeps {[counts[g] for g in range(router.n_group)]} experts of "
                    f"its {router.n_group} groups; a balanced selection keeps the same number of "
                    "each, or every runtime would route wrongly without a word (select again, or "
                    "choose groups 'flatten')"
                )
    return kept
