"""A built engine: its folder, which is checked before the engine is loaded."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from hrnetpose import files
from hrnetpose.artifacts.engine import ENGINE_CARD, ENGINE_FILE, EngineCard
from hrnetpose.engines.base import Engine, OpenRequest, OptionsT, StreamOptions, rebuild_command
from hrnetpose.engines.plugin import Backend
from hrnetpose.stage import StageError


@dataclass(frozen=True)
class EngineFolder(Generic[OptionsT]):
    """An engine file and the card beside it.

    Attributes:
        path: the folder.
        card: the engine card.
        backend: of the engine.
        options: of the backend, as the engine was built.
    """

    path: Path
    card: EngineCard
    backend: Backend[OptionsT]
    options: OptionsT

    @property
    def file(self) -> Path:
        """The engine file."""
        return self.path / ENGINE_FILE

    @property
    def any_batch(self) -> bool:
        """Whether it can be opened at any batch size."""
        return self.backend.any_batch and self.card.model.fixed_batch is None

    @property
    def streams(self) -> int | None:
        """Number of streams that the engine was built with; None if not given."""
        return self.options.streams if isinstance(self.options, StreamOptions) else None

    def open(
        self, threads: int, batch: int | None = None, streams: int | None = None
    ) -> Engine[OptionsT]:
        """Return the engine, which a `with` statement loads.

        Args:
            threads: CPU threads, unless the options set them.
            batch: images per inference, if not those of the card; needs `any_batch`.
            streams: concurrent requests, if not those of the options; needs `Backend.has_streams`.
        """
        options = self.options.model_copy(update={"streams": streams} if streams else {})
        return self.backend.open(
            OpenRequest(
                file=self.file,
                card=self.card,
                batch=batch or self.card.batch,
                options=options,
                threads=options.threads or threads,
                remedy=f"build it again: {rebuild_command(self.path)}",
            )
        )

    def check(self) -> None:
        """Check that the file is the engine of the card, and that it was built for this machine.

        Raises:
            StageError: with what differs.
        """
        built = self.card.built_for
        here = self.backend.build_environment(self.card.batch, self.options)
        for name in {**here, **built}:
            if built.get(name) != here.get(name):
                raise StageError(
                    f"{self.file}: built for {name} {built.get(name)}, but here it is "
                    f"{here.get(name)}"
                )
        graph = Path(self.card.graph) if self.card.graph else None
        # An engine can be moved without its graph; a graph that is there must be the same.
        if graph and graph.is_file() and files.sha256(graph) != self.card.graph_sha256:
            raise StageError(f"{self.file}: {graph} has changed since it was built")
        if not self.file.is_file() or files.sha256(self.file) != self.card.sha256:
            raise StageError(
                f"{self.file}: missing, or not the engine that {ENGINE_CARD} describes"
            )


@contextmanager
def suggest_rebuild(folder: Path) -> Iterator[None]:
    """Add the remedy to errors of a built engine: the command that builds it again.

    Args:
        folder: of the engine.

    Raises:
        StageError: with the remedy.
    """
    try:
        yield
    except StageError as error:
        raise StageError(
            f"{error}; build it again: {rebuild_command(folder)}", error.details
        ) from error
