"""What a bundle for Iluvatar's GPUs has beside: its runners."""

from hrnetpose.bundle.runtime import RUNNERS, Runner
from hrnetpose.engines.igie import IgieEngine
from hrnetpose.engines.ixrt import IxrtEngine

RUNNERS["igie"] = Runner(IgieEngine, ("tvm",))
RUNNERS["ixrt"] = Runner(IxrtEngine, ("tensorrt",))
