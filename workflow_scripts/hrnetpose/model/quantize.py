"""Static int8 quantisation of an ONNX graph, as explicit QuantizeLinear/DequantizeLinear pairs."""

import logging
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from onnxruntime import quantization

from hrnetpose.artifacts import ModelCard
from hrnetpose.model import graphs
from hrnetpose.stage import StageError

BATCH = 16


class _Crops(quantization.CalibrationDataReader):
    """Feeds normalised crops to the calibrator."""

    def __init__(self, crops: npt.NDArray[np.uint8], card: ModelCard) -> None:
        starts = range(0, len(crops), BATCH)
        self._batches = (graphs.normalised(crops[i : i + BATCH], card) for i in starts)
        self._name = card.input.name

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def to_int8(model: Path, crops: npt.NDArray[np.uint8], card: ModelCard, output: Path) -> None:
    """Writes the int8 graph.

    Weights are symmetric and per channel, activations are per tensor, biases stay fp32: the form
    that ONNX Runtime, OpenVINO and TensorRT's explicit quantisation all take.

    Args:
        model: the fp32 graph.
        crops: uint8 [N, H, W, 3] RGB calibration crops, N >= 1.
        card: says how crops are normalised.
        output: where the graph goes.

    Raises:
        StageError: there are no crops, or the graph cannot be quantised.
    """
    if not len(crops):
        raise StageError("int8 calibration needs at least one person, but the crops are empty")
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quantization.shape_inference.quant_pre_process(
            str(model), str(prepared), skip_symbolic_shape=True
        )
        logging.info("calibrating on %d crops", len(crops))
        quantization.quantize_static(
            str(prepared),
            str(output),
            _Crops(crops, card),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
            activation_type=quantization.QuantType.QInt8,
            extra_options={
                "ActivationSymmetric": False,
                "WeightSymmetric": True,
                "AddQDQPairToWeight": True,
                "QuantizeBias": False,
            },
        )
