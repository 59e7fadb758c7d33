"""evaluate, for detectors: AP of the ensemble, its members, the named run and, if asked for, all other runs on test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline.atomic import replacing, scratch_folder, write_json
from pipeline.config import Config
from pipeline.detection.card import card
from pipeline.detection.detect import FOLDER, all_scenes, detect
from pipeline.detection.gains import Judged, improvements
from pipeline.detection.joint import BASELINE, Manner
from pipeline.detection.judge import judge, pictures
from pipeline.ensemble.build import read_ensemble
from pipeline.ensemble.card import NAME as CARD
from pipeline.ensemble.judge import to_track
from pipeline.ensemble.members import Source
from pipeline.evaluation.detection import Detections
from pipeline.record import Net
from pipeline.stages.evaluate import publish, scalars
from pipeline.tracking.location import require_answer
from pipeline.tracking.results import keep_test_errors
from pipeline.tracking.sync import sync
from pipeline.workspace import Workspace


def run(config: Config, workspace: Workspace) -> None:
    source = Source.configured(config, workspace.store(config.data.name))
    made = read_ensemble(workspace.ensemble, source.store.manifest.content_hash)
    named = source.named(workspace.result("train"))
    if config.evaluation.runs == "all":
        require_answer(source.location, "evaluation.runs=all tests every finished run in MLflow")
        sync(source.runs, source.location)
    scenes = all_scenes(source.store, source.store.test())
    manner = Manner(refine=config.evaluation.refine, scales=tuple(config.evaluation.scales))
    with scratch_folder(source.runs / "evaluate") as folder:

        def judged(net: Net, files: Path) -> Judged:
            detections = detect([source.fetch(net, files)], scenes, source.runs / FOLDER, source.device, manner)
            return Judged.make(net, detections, scenes)

        members = [judged(net, workspace.ensemble) for net in made.members]
        run = judged(named, folder) if named else None
        taken = {net.checkpoint_sha256 for net in (*made.members, *([named] if named else []))}
        rest = source.finished() if config.evaluation.runs == "all" else []
        others = [judged(net, folder) for net in rest if net.checkpoint_sha256 not in taken]
        files = [source.fetch(net, workspace.ensemble) for net in made.members]

        def together(manner: Manner) -> list[Detections]:
            return detect(files, scenes, source.runs / FOLDER, source.device, manner)

        joint, baseline = together(manner), together(BASELINE)
        single = {
            "evaluation.refine": replace(BASELINE, refine=manner.refine),
            "evaluation.scales": replace(BASELINE, scales=manner.scales),
        }
        improved = {key: scenes.matches(together(each)) for key, each in single.items() if each != BASELINE}
    result = judge(made, scenes, joint, members, run, others)
    result["data"] |= asdict(manner)
    nets = [*members, *([run] if run else []), *others]
    result["improvements"] = improvements(scenes.matches(baseline), improved, made.members, nets)
    write_json(workspace.result("evaluate"), result)
    write_json(workspace.scalars("evaluate"), scalars(result), checksum=False)
    write_json(workspace.result("mistakes"), {"scenes": pictures(scenes, joint)})
    write_json(workspace.result("responses"), [])  # of layers, which classifiers alone have, as these files
    with replacing(workspace.result("confusion").with_suffix(".csv")) as part:
        part.write_text("actual,predicted\n", encoding="utf-8")
    with replacing(workspace.experiment / CARD) as part:
        part.write_text(card(made, source.store.manifest, result), encoding="utf-8")
    keep_test_errors(source.runs, source.store.manifest.name, to_track(result, made))
    publish(source, made, workspace)
    show(result)


def show(result: dict[str, Any]) -> None:
    """Prints AP, and what one net gains over another."""
    nets: Sequence[dict[str, Any]] = [*result["others"], *result["members"]]
    run, listed = result["run"], {net["checkpoint_sha256"] for net in nets}
    for net in (*nets, *([run] if run and run["checkpoint_sha256"] not in listed else [])):
        print(f"{net['name']}, lr {net['recipe']['lr']:g}, seed {net['seed']} {net['key']}: {_interval(net)}")
    print(f"ensemble of {result['ensemble']['size']}: {_interval(result['ensemble'])}")
    for row in result["improvements"]:
        (before, after), where = row["ap"], f" in {row['net']}{_apart(row)}" if row["net"] else ""
        print(f"{row['key']}{where}: AP {100 * before:.1f} % without, {100 * after:.1f} % with it")
    for gain in result["gains"]:
        if gain["relative"] is not None:
            low, high = gain["relative"]["ci95"]
            print(
                f"{gain['net']} in place of {gain['base']}{_apart(gain)}: {100 * gain['relative']['estimate']:+.1f} % of its AP "
                f"(95 % interval {100 * low:+.1f} to {100 * high:+.1f} %, {len(gain['seeds'])} seeds)"
            )


def _apart(row: dict[str, Any]) -> str:
    return f" ({row['apart']})" if row["apart"] else ""


def _interval(net: dict[str, Any]) -> str:
    ap, ap50 = (
        f"{100 * (1 - net[error]):.1f} % (95 % interval {100 * (1 - high):.1f} to {100 * (1 - low):.1f})"
        for error, (low, high) in (("test_err1", net["ci95"]), ("test_err5", net["ci95_err5"]))
    )
    return f"test AP {ap}, AP50 {ap50}"
