"""An engine that was built: its folder, checked before anything is loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from hrnetpose import files
from hrnetpose.artifacts.engine import ENGINE_CARD, ENGINE_FILE, EngineCard
from hrnetpose.engines.base import Engine, OpenRequest, OptionsT, StreamOptions
from hrnetpose.engines.plugin import Backend
from hrnetpose.stage import StageError


@dataclass(frozen=True)
class EngineFolder(Generic[OptionsT]):
    """An engine file and the card beside it.

    Attributes:
        path: the folder.
        card: the engine's.
        backend: its plug-in.
        options: those it was built with.
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
    def streams(self) -> int | None:
        """The number of streams that it was built with; None if it was not given."""
        return self.options.streams if isinstance(self.options, StreamOptions) else None

    def open(
        self, threads: int, batch: int | None = None, streams: int | None = None
    ) -> Engine[OptionsT]:
        """Prepares to open the engine, in a `with` statement.

        Args:
            threads: CPU threads, unless its options give them.
            batch: images per inference, if not the card's; it takes a backend with `any_batch`.
            streams: requests that run at the same time, if not its options'; it takes a backend
                with `has_streams`.
        """
        options = self.options.model_copy(update={"streams": streams} if streams else {})
        return self.backend.open(
            OpenRequest(
                file=self.file,
                card=self.card,
                batch=batch or self.card.batch,
                options=options,
                threads=options.threads or threads,
            )
        )

    def check(self) -> None:
        """Refuses an engine that is not the card's, or was built for something else than is here.

        Raises:
            StageError: with the remedy.
        """
        self.backend.require(self.options)
        built, found = (
            self.card.built_for,
            self.backend.build_environment(self.card.batch, self.options),
        )
        for name in {**found, **built}:
            if built.get(name) != found.get(name):
                raise StageError(
                    f"{self.file}: built for {name} {built.get(name)}, but here it is "
                    f"{found.get(name)}; build it again: {rebuild_command(self.path)}"
                )
        graph = Path(self.card.graph) if self.card.graph else None
        # An engine may be taken elsewhere without its graph; where that is, it has to be the same.
        if graph and graph.is_file() and files.sha256(graph) != self.card.graph_sha256:
            raise StageError(
                f"{self.file}: built from another {graph} than the one that is there; build it "
                f"again: {rebuild_command(self.path)}"
            )
        if not self.file.is_file() or files.sha256(self.file) != self.card.sha256:
            raise StageError(
                f"{self.file}: missing, or not the engine that {ENGINE_CARD} describes; build it "
                f"again: {rebuild_command(self.path)}"
            )


def rebuild_command(folder: Path) -> str:
    """Returns the command that builds an engine again."""
    return f"snakemake --cores 4 --forcerun build_engine -- {folder / ENGINE_CARD}"
