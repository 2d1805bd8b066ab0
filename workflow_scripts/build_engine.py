"""Build an engine from an ONNX graph (or, for PyTorch, from the checkpoint) and describe it.

    python workflow_scripts/build_engine.py --variant bf16 --backend openvino --precision bf16 \\
        --graph fp32.onnx --card model.json --batch 8 --output build/engines/bf16
"""

import argparse
import logging
import time
from pathlib import Path
from typing import Any

from hrnetpose import engines, files, stage
from hrnetpose.artifacts.engine import ENGINE_CARD, ENGINE_FILE, EngineCard, ExecutedPrecision
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.engines.base import BuildRequest
from hrnetpose.engines.folder import EngineFolder
from hrnetpose.engines.plugin import Backend
from hrnetpose.recipes import PRECISIONS, Precision


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    command = stage.command(__doc__)
    command.add_argument("--variant", required=True, help="what the engine is called")
    command.add_argument("--backend", choices=engines.BACKENDS, required=True)
    command.add_argument("--precision", choices=PRECISIONS, required=True)
    command.add_argument("--graph", type=Path, help="the ONNX file; PyTorch needs none")
    command.add_argument("--weights", type=Path, help="the checkpoint, for PyTorch")
    command.add_argument("--card", type=Path, required=True, help="the model card")
    command.add_argument("--batch", type=int, required=True, help="images per inference")
    command.add_argument(
        "--options", type=stage.Json(dict[str, Any]), default={}, help="backend options, as JSON"
    )
    command.add_argument("--threads", type=int, default=1, help="CPU threads")
    command.add_argument("--cache", type=Path, help="keeps what makes later builds faster")
    command.add_argument("--output", type=Path, required=True, help="the engine's folder")
    return command


def main(
    *,
    variant: str,
    backend: str,
    precision: Precision,
    graph: Path | None,
    weights: Path | None,
    card: Path,
    batch: int,
    options: dict[str, Any],
    threads: int,
    cache: Path | None,
    output: Path,
) -> None:
    """Run the stage."""
    used = engines.backend(backend)
    checked = used.parse_options(options, "--options")
    model = ModelCard.read(card)
    if model.fixed_batch and model.fixed_batch != batch:
        logging.warning("batch %d, the only one that the graph takes", model.fixed_batch)
        batch = model.fixed_batch
    checked.check(batch, precision)
    used.require(checked, device=not used.builds_anywhere)
    request = BuildRequest(
        graph=graph,
        weights=weights,
        card=model,
        precision=precision,
        batch=batch,
        options=checked,
        threads=checked.threads or threads,
        cache=cache,
    )
    start = time.perf_counter()
    modules = used.build(request, output / ENGINE_FILE)
    seconds = time.perf_counter() - start
    built = EngineFolder(output, describe(variant, used, request, output), used, checked)
    built.card.modules, built.card.build_seconds = dict(modules or {}), round(seconds, 3)
    if reason := used.unavailable_reason(checked):
        logging.warning("not opened, so that the precision executed is not known: %s", reason)
    else:
        with built.open(threads) as opened:
            built.card.executed = opened.executed()
    logging.info("requested %s, executes %s", precision, built.card.executed)
    built.card.write(output / ENGINE_CARD)


def describe(
    variant: str, backend: Backend[Any], request: BuildRequest[Any], folder: Path
) -> EngineCard:
    """Return the card of an engine that has just been built and was not opened yet.

    Args:
        variant: what it is called.
        backend: its plug-in.
        request: what it was built from.
        folder: holds it.
    """
    engine = folder / ENGINE_FILE
    return EngineCard(
        variant=variant,
        backend=backend.name,
        device=backend.device(request.options),
        requested=request.precision,
        executed=ExecutedPrecision(precision="unknown", layers={}),
        batch=request.batch,
        options=request.options.model_dump(mode="json", exclude_unset=True),
        sha256=files.sha256(engine),
        bytes=engine.stat().st_size,
        graph=str(request.graph) if request.graph else None,
        graph_sha256=files.sha256(request.graph) if request.graph else None,
        built_for=backend.build_environment(request.batch, request.options),
        build_seconds=0.0,
        versions=backend.versions(),
        model=request.card,
    )


if __name__ == "__main__":
    stage.run(parser(), main)
