"""Where the files of a run lie.

Models, datasets and crops are shared by all runs; engines, predictions, results and logs are a
run's own.  What depends on a model and a dataset has both in its path.
"""

from dataclasses import dataclass

from hrnetpose.recipes import RECIPES, Graph


@dataclass(frozen=True)
class Layout:
    """The paths of a run; `{variant}` and the like may stand for names.

    Attributes:
        run: its name; None for the one that has none.
        dataset: that is evaluated and calibrated on.
    """

    run: str | None
    dataset: str

    @property
    def results(self) -> str:
        """The folder of what a person asked for."""
        return self._own("results")

    @property
    def engines(self) -> str:
        """The folder of engines, one in each variant's folder."""
        return self._own("build/engines")

    @property
    def predictions(self) -> str:
        """The folder of predictions, in each variant's folder."""
        return self._own("build/predictions")

    @property
    def data(self) -> str:
        """The folder of what is derived from the dataset."""
        return f"build/datasets/{self.dataset}"

    def log(self, rule: str, name: str) -> str:
        """Returns the log of a job whose outputs are the run's own."""
        return f"{self._own(f'logs/{rule}')}/{name}.log"

    def graph(self, model: str, graph: Graph) -> str:
        """Returns where a graph of a model lies."""
        return f"build/models/{model}/{self.name(graph)}.onnx"

    def source(self, model: str, graph: Graph) -> str:
        """Returns the graph that another one is made from."""
        source = RECIPES[graph].source
        return self.graph(model, source) if source else f"build/models/{model}/simplified.onnx"

    def quantization(self, model: str, graph: Graph) -> str:
        """Returns what was written about an int8 graph."""
        return f"build/models/{model}/{self.name(graph)}.json"

    def name(self, graph: Graph) -> str:
        """Returns a graph's name in its model's folder, with the dataset if it depends on one."""
        return f"{self.dataset}/{graph}" if RECIPES[graph].calibrated else graph

    def _own(self, folder: str) -> str:
        return f"{folder}/{self.run}" if self.run else folder
