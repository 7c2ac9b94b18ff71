"""The tables of docs/throughput.md that are computed, computed again."""

from easyep.evaluation.roofline.predict import predict

PAPER = {128: ("1.50", "2.99"), 64: ("2.17", "4.33")}
HEAD = (
    "| batch | experts | machine | decode tok/s at most | per instance | doubled | paper |\n"
    "| ---: | ---: | --- | ---: | ---: | ---: | --- |\n"
)


def deepseek_r1(config) -> str:
    """The full model on two nodes, pruned ones on one, with the same batch on each instance."""
    lines = []
    asked = {"lengths": [(1024, 1024)], "batch_sizes": (1, 16, 64, 128)}
    full = predict(config, "h800x16", keep=[], **asked)
    pruned = predict(config, "h800x8", keep=[128, 64], **asked)
    for before in full.fixed_batch:
        lines.append(f"| {before.batch} | 256 | h800x16 | {before.decode_throughput:,.0f} | | | |")
        for after in pruned.fixed_batch:
            if after.batch != before.batch:
                continue
            ratio = after.decode_throughput / before.decode_throughput
            paper = " and ".join(PAPER[after.experts])
            lines.append(
                f"| {after.batch} | {after.experts} | h800x8 | {after.decode_throughput:,.0f} | "
                f"{ratio:.2f} | {2 * ratio:.2f} | {paper} |"
            )
    return HEAD + "\n".join(lines)


def test_deepseek_r1_beside_the_paper(root):
    table = deepseek_r1(root / "benchmarks/configs/deepseek-r1.json")
    assert table in (root / "docs/throughput.md").read_text(), table
