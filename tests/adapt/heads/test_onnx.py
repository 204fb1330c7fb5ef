"""Heads from ONNX files."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest

from napari_batchfx.adapt import ONNXHead, load_head
from napari_batchfx.errors import AdaptError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
WEIGHT = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def write(path, ops=(), rank=2, external=False, meta=None):
    from onnx import TensorProto, helper, numpy_helper

    shape = ["n", 6] if rank == 2 else ["n", 3, 8, 6]
    weight = numpy_helper.from_array(WEIGHT, "w")
    if external:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        entry = weight.external_data.add()
        entry.key, entry.value = "location", "/etc/hostname"
    nodes = [helper.make_node("MatMul", ["x", "w"], ["logits"])] + [
        helper.make_node(op, ["logits"], ["out"], domain=domain) for op, domain in ops
    ]
    last = "out" if ops else "logits"
    graph = helper.make_graph(
        nodes,
        "head",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, [*shape[:-1], 3])],
        [weight],
    )
    domains = [helper.make_opsetid("", 17), *[helper.make_opsetid(d, 1) for _, d in ops if d]]
    model = helper.make_model(graph, opset_imports=domains, ir_version=9)
    for key, value in (meta or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def table():
    x = np.random.default_rng(1).normal(size=(40, 6)).astype(np.float32)
    x[4] = np.nan
    return anndata.AnnData(x, obs=pd.DataFrame(index=[str(i) for i in range(40)]))


@pytest.mark.parametrize("ops", [(), (("Softmax", ""),)], ids=["logits", "probabilities"])
def test_logits_and_probabilities_give_the_same(tmp_path, table, ops):
    names = json.dumps(["a", "b", "c"])
    head = load_head(write(tmp_path / "head.onnx", ops, meta={"classes": names, "encoder": "uni/1"}))
    found = head.predict(table)
    logits = table.X.astype(np.float64) @ WEIGHT
    wanted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert found.classes == ("a", "b", "c")
    assert head.encoder == "uni/1"
    rest = np.arange(40) != 4
    assert np.abs(found.proba - wanted)[rest].max() < 1e-6
    assert not found.predicted[4]


def test_another_encoder_or_width_is_refused(tmp_path, table):
    path = write(tmp_path / "head.onnx", meta={"encoder": "uni/1"})
    with pytest.raises(AdaptError, match="trained on features of uni/1"):
        load_head(path, encoder="virchow/1")
    with pytest.raises(AdaptError, match="vectors of 6 numbers, this table has 2"):
        ONNXHead(path).predict(table[:, :2].copy())
    assert "doesn't say which encoder" in " ".join(_warned(ONNXHead(write(tmp_path / "b.onnx")), table))


def _warned(head, table):
    head.predict(table)
    return head.warnings


def test_what_is_no_head_is_declined_in_one_sentence(tmp_path):
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(AdaptError, match="no ONNX file"):
        ONNXHead(tmp_path / "text.onnx")
    with pytest.raises(AdaptError, match="one input of feature vectors"):
        ONNXHead(write(tmp_path / "image.onnx", rank=4))
    with pytest.raises(AdaptError, match="no ONNX file that can be read by itself"):
        ONNXHead(write(tmp_path / "custom.onnx", (("RunShell", "evil.ops"),)))
    with pytest.raises(AdaptError, match="no ONNX file that can be read by itself"):
        ONNXHead(write(tmp_path / "external.onnx", external=True))
    with pytest.raises(AdaptError, match="class names"):
        ONNXHead(write(tmp_path / "names.onnx", meta={"classes": '["a", "b"]'}))
