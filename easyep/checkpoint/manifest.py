"""`easyep.json`: what a pruned checkpoint says about where it came from."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from easyep.artifacts.files import check_schema, read_json
from easyep.artifacts.model_identity import ModelIdentity
from easyep.artifacts.selection import Selection
from easyep.checkpoint.files import parse_object, read_text
from easyep.checkpoint.kept_experts import MTP_MODES
from easyep.checkpoint.side_files import MANIFEST
from easyep.errors import ArtifactError, EasyEPError, OutputError

SCHEMA = 1


@dataclass(frozen=True)
class Manifest:
    """The entries that every manifest has; files may hold more.

    Attributes:
        source: the checkpoint that was pruned.
        selection: which experts were kept.
        mtp: what happened to MTP layers.
        checksums: file -> SHA-256 of all files but the manifest and the model card.
    """

    source: ModelIdentity
    selection: Selection
    mtp: str
    checksums: Mapping[str, str]

    @classmethod
    def load(cls, root: Path) -> "Manifest":
        """Read the manifest of the checkpoint directory `root`.

        Raises:
            ArtifactError: there is none, or it is not one of this schema.
        """
        try:
            value = parse_object(read_text(root, MANIFEST), MANIFEST)
            check_schema(value, SCHEMA)
            checksums, selection = value.get("checksums"), value.get("selection")
            if not isinstance(checksums, dict) or not isinstance(selection, dict):
                raise ArtifactError("the entries 'checksums' and 'selection' must be objects")
            if value.get("mtp") not in MTP_MODES:
                raise ArtifactError(f"the entry 'mtp' must be one of {', '.join(MTP_MODES)}")
            return cls(
                source=ModelIdentity.from_json(value.get("source")),
                selection=Selection.from_json(selection),
                mtp=value["mtp"],
                checksums=checksums,
            )
        except EasyEPError as error:
            raise ArtifactError(
                f"{root / MANIFEST} cannot be used: {error}; easyep writes it with every pruned "
                "checkpoint, and nothing can be verified without it"
            ) from None


def manifest_document(
    source: ModelIdentity, selection: Selection, mtp: str, more: Mapping[str, Any]
) -> dict[str, Any]:
    """The JSON object of a manifest without its checksums, with the entries `more`.

    Raises:
        OutputError: `more` contradicts an entry of the manifest's own. Only `easyep`, and the
            name of the source, may be said otherwise.
    """
    own: dict[str, Any] = {
        "schema": SCHEMA,
        "easyep": easyep_version(),
        "source": source.to_json(),
        "selection": selection.to_json(),
        "mtp": mtp,
        "checksums": {},
    }
    for key in set(own) & set(more) - {"easyep"}:
        given = more[key]
        if key == "source" and isinstance(given, Mapping):
            given = {**given, "name": source.name}
        if given != own[key]:
            raise OutputError(f"the manifest's entry {key!r} is easyep's own and says otherwise")
    return {**own, **more}


def shown_before(root: Path) -> set[str] | None:
    """Hashes of the demonstrations by which a checkpoint's experts, and its source's, were chosen.

    None where no manifest says: the model was never pruned, or by weights alone.

    Raises:
        ArtifactError: there is a manifest that cannot be read.
    """
    if not (root / MANIFEST).exists():
        return None
    value = read_json(root / MANIFEST, "manifest")
    seen, earlier = value.get("observations"), value.get("earlier_demos_sha256")
    if not isinstance(seen, list) and not isinstance(earlier, list):
        return None
    origins = [each for each in (seen if isinstance(seen, list) else []) if isinstance(each, dict)]
    told = [*(each.get("demos_sha256") for each in origins), earlier]
    return {str(demo) for each in told if isinstance(each, list) for demo in each}


def easyep_version() -> str:
    """The version of easyep that runs."""
    try:
        return metadata.version("easyep")
    except metadata.PackageNotFoundError:
        return "unknown"  # run from a source tree that is not installed
