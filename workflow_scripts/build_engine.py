"""Build an engine from an ONNX graph (or, for PyTorch, from the checkpoint) and describe it.

    python workflow_scripts/build_engine.py --variant bf16 --backend openvino --precision bf16 \\
        --graph fp32.onnx --card model.json --batch 8 --output build/engines/bf16
"""

import argparse
import json
import logging
import time
from pathlib import Path

from hrnetpose import engines, files, stage
from hrnetpose.artifacts.engine import ENGINE_CARD, ENGINE_FILE, EngineCard, ExecutedPrecision
from hrnetpose.artifacts.model import ModelCard
from hrnetpose.engines.base import BuildRequest
from hrnetpose.engines.folder import EngineFolder
from hrnetpose.recipes import PRECISIONS


def parser() -> argparse.ArgumentParser:
    """Returns the command line."""
    command = stage.command(__doc__)
    command.add_argument("--variant", required=True, help="what the engine is called")
    command.add_argument("--backend", choices=engines.BACKENDS, required=True)
    command.add_argument("--precision", choices=PRECISIONS, required=True)
    command.add_argument("--graph", type=Path, required=True, help="the ONNX file")
    command.add_argument("--weights", type=Path, help="the checkpoint, for PyTorch")
    command.add_argument("--card", type=Path, required=True, help="the model card")
    command.add_argument("--batch", type=int, required=True, help="images per inference")
    command.add_argument("--options", type=json.loads, default={}, help="backend options, as JSON")
    command.add_argument("--threads", type=int, default=1, help="CPU threads")
    command.add_argument("--cache", type=Path, help="keeps what makes later builds faster")
    command.add_argument("--output", type=Path, required=True, help="the engine's folder")
    return command


def main(args: argparse.Namespace) -> None:
    """Runs the stage."""
    backend = engines.backend(args.backend)
    options = backend.parse_options(args.options, "--options")
    options.check(args.batch, args.precision)
    backend.require(options, device=not backend.builds_anywhere)
    model = ModelCard.read(args.card)
    request = BuildRequest(
        graph=args.graph,
        weights=args.weights,
        card=model,
        precision=args.precision,
        batch=args.batch,
        options=options,
        threads=options.threads or args.threads,
        cache=args.cache,
    )
    engine = args.output / ENGINE_FILE
    start = time.perf_counter()
    modules = backend.build(request, engine)
    seconds = time.perf_counter() - start
    card = EngineCard(
        variant=args.variant,
        backend=backend.name,
        device=backend.device(options),
        requested=args.precision,
        executed=ExecutedPrecision(precision="unknown", layers={}),
        batch=args.batch,
        options=options.model_dump(mode="json", exclude_unset=True),
        sha256=files.sha256(engine),
        bytes=engine.stat().st_size,
        graph=None if backend.original else str(args.graph),
        graph_sha256=None if backend.original else files.sha256(args.graph),
        built_for=backend.build_environment(args.batch, options),
        modules=dict(modules or {}),
        build_seconds=round(seconds, 3),
        versions=backend.versions(),
        model=model,
    )
    if reason := backend.unavailable_reason(options):
        logging.warning("not opened, so that the precision executed is not known: %s", reason)
    else:
        built = EngineFolder(args.output, card, backend, options)
        with built.open(args.threads) as opened:
            card.executed = opened.executed()
    logging.info("requested %s, executes %s", card.requested, card.executed)
    card.write(args.output / ENGINE_CARD)


if __name__ == "__main__":
    stage.run(parser(), main)
