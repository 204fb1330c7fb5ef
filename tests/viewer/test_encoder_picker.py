"""Choosing an encoder in the window: the list, the card, files, the keyboard, and a download one can watch."""

from __future__ import annotations

import sys
import threading

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFileDialog
from tests.encoders.hub_server import HubServer, tiny_model, use_hub
from tests.viewer.conftest import tissue

from napari_batchfx.encoders import available, downloading, streaming

MODEL = "hf-hub:org/tiny"
FILE = "model.safetensors"


@pytest.fixture
def encode(bench):
    return bench.docks["encode"]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = HubServer({"org/tiny": tiny_model()})
    use_hub(monkeypatch, server.url, tmp_path / "hub-cache")
    monkeypatch.setattr(streaming, "CHUNK", 64 * 1024)
    monkeypatch.setattr(downloading, "WAIT_S", 0.02)
    yield server
    server.close()


def chosen(encode):
    return encode.session.study.settings.encode.encoder


def type_in(qtbot, box, text, key=Qt.Key.Key_Return):
    box.lineEdit().selectAll()
    qtbot.keyClicks(box.lineEdit(), text)
    qtbot.keyClick(box.lineEdit(), key)


def test_the_list_has_every_encoder_and_greys_what_cannot_be_loaded(encode):
    box, table = encode.encoder, available()
    assert [box.itemText(i) for i in range(len(table))] == list(table["name"])
    assert [box.itemText(len(table) + i) for i in range(2)] == ["Choose a file ...", "Choose a folder ..."]
    model = box.model()
    for row in table.itertuples():
        item = model.item(row.Index)
        assert item.isEnabled() == bool(row.loadable and not row.needs), row.name
        assert row.title in item.toolTip()
    refused = model.item(box.findData("conch"))
    assert not refused.isEnabled()
    assert "program code" in refused.toolTip()
    assert "import the h5" in refused.toolTip()


def test_the_card_says_what_matters_before_it_is_downloaded(encode, hub):
    encode.picker.show_name("virchow2")
    text = encode.picker.card.text()
    for part in (
        "Virchow2",
        "2,560 numbers",
        "224 px at 0.5 µm/px",
        "CC BY-NC-ND 4.0",
        "accept its terms first",
        "GB",
    ):
        assert part in text, part
    assert "to download" in text
    assert 'href="https://huggingface.co/paige-ai/Virchow2"' in text
    encode.picker.show_name("colour-statistics")
    assert "on this machine" in encode.picker.card.text()
    assert "open" in encode.picker.card.text()
    encode.picker.show_name("conch")
    assert "can't be loaded here" in encode.picker.card.text()


def test_chosen_and_typed_with_the_keyboard(encode, qtbot):
    box = encode.encoder
    box.setFocus()
    qtbot.keyClick(box, Qt.Key.Key_Down)
    assert chosen(encode) == "batchfx-mini"
    qtbot.keyClick(box, Qt.Key.Key_Down)
    assert chosen(encode) == "uni"
    assert "UNI" in encode.picker.card.text()
    row = box.findData("conch")
    box.setCurrentIndex(row - 1)
    qtbot.keyClick(box, Qt.Key.Key_Down)
    assert chosen(encode) == "hibou-b"  # the two that can't be loaded are stepped over
    type_in(qtbot, box, "uni2-h")
    assert chosen(encode) == "uni2-h"
    assert box.currentIndex() == box.findData("uni2-h")
    type_in(qtbot, box, "hf-hub:org/uni")
    assert chosen(encode) == "hf-hub:org/uni"
    assert box.currentText() == "hf-hub:org/uni"
    type_in(qtbot, box, "  ")
    assert chosen(encode) == "hf-hub:org/uni"  # nothing typed is nothing chosen
    assert box.currentText() == "hf-hub:org/uni"


def test_what_is_typed_is_not_completed_to_something_else(encode, qtbot, wait):
    type_in(qtbot, encode.encoder, "resnet5")
    assert chosen(encode) == "resnet5"
    wait(lambda: not encode.picker._job.is_running)
    assert "no timm model of this name" in encode.picker.card.text()


def test_a_timm_model_is_looked_up_beside_the_window(encode, qtbot, wait):
    seen = []
    encode.picker._job.succeeded.connect(lambda card: seen.append(card))
    type_in(qtbot, encode.encoder, "vit_tiny_patch16_224")
    assert "looking it up" in encode.picker.card.text()
    wait(lambda: seen)
    assert "photographs, not pathology" in encode.picker.card.text()
    assert "224 px" in encode.picker.card.text()
    type_in(qtbot, encode.encoder, "resnet10t")  # the answer of one typed before doesn't come late
    encode.picker.show_name("uni")
    wait(lambda: not encode.picker._job.is_running)
    assert "UNI" in encode.picker.card.text()


def test_a_file_and_a_folder(encode, tmp_path, monkeypatch, wait):
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, content in tiny_model().items():
        (folder / name).write_bytes(content)
    asked = {}

    def open_file(parent, title, start, kinds):
        asked["kinds"] = kinds
        return asked["answer"], ""

    monkeypatch.setattr(QFileDialog, "getOpenFileName", open_file)
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    box = encode.encoder
    asked["answer"] = ""
    box.activated.emit(box.findText("Choose a file ..."))
    assert chosen(encode) == "colour-statistics"  # the dialog was closed: nothing changes
    assert box.currentText() == "colour-statistics"
    for suffix in ("safetensors", "pt", "pth", "ckpt", "bin"):
        assert f"*.{suffix}" in asked["kinds"]
    box.setEditText("Choose a folder ...")  # as Qt does it
    box.activated.emit(box.findText("Choose a folder ..."))
    assert chosen(encode) == str(folder)
    wait(lambda: not encode.picker._job.is_running)
    assert "64 numbers" in encode.picker.card.text()
    assert "mit" in encode.picker.card.text()
    asked["answer"] = str(tmp_path / "gone.pt")
    box.activated.emit(box.findText("Choose a file ..."))
    wait(lambda: not encode.picker._job.is_running)
    assert "gone.pt: there is no such file" in encode.picker.card.text()


def test_a_download_is_seen_stopped_and_goes_on(bench, encode, hub, wait, make_slide, tmp_path):
    slides = bench.docks["slides"]
    slides.add_paths([make_slide("a.tif", tissue(300, 300))])
    wait(lambda: encode.row.button.isEnabled())
    type_ = encode.picker
    type_.show_name(MODEL)
    assert "to download" in type_.card.text()
    encode.size_px.setValue(64)
    encode.mpp.setValue(0.5)
    encode.where.button(2).setChecked(True)
    go = threading.Event()
    hub.faults[FILE] = [("pause", 300_000, go)]
    encode.start()
    assert chosen(encode) == MODEL
    wait(lambda: "downloading" in encode.row.line.text() and " MB" in encode.row.line.text(), 120)
    wait(lambda: encode.row.bar.value() > 0)
    assert encode.row.bar.maximum() == 1000
    encode.stop()
    go.set()
    assert "goes on from there" in encode.card.text
    assert encode.card.kind != "error"
    assert slides.session.study.loaded_encoder() is None
    wait(lambda: not slides.session.study.is_working)
    hub.faults[FILE] = [100_000] + [0] * 12
    encode.start()
    wait(lambda: encode.card.kind == "error", 120)
    assert "goes on from there" in encode.card.text
    assert slides.session.study.store().nbytes == 0
    hub.faults.clear()
    encode.start()
    wait(lambda: "tiles encoded" in encode.card.text, 120)
    assert slides.session.study.table().shape[1] == 64
    assert "on this machine" in type_.card.text()


def test_moving_the_view_does_not_begin_a_download_again(bench, encode, hub, wait, make_slide, qtbot):
    slides = bench.docks["slides"]
    slides.add_paths([make_slide("a.tif", tissue(600, 600))])
    wait(lambda: encode.row.button.isEnabled())
    encode.picker.show_name(MODEL)
    encode.size_px.setValue(32)
    encode.mpp.setValue(0.5)
    encode._apply()
    go = threading.Event()
    hub.faults[FILE] = [("pause", 300_000, go)]
    encode.live.setChecked(True)
    wait(lambda: encode.encoding.job.is_running and hub.ranges, 120)
    for step in range(3):
        slides.session.viewer.camera.center = (0, 100 + 20 * step, 120)
        qtbot.wait(250)
    assert len(hub.ranges) == 1
    go.set()
    wait(lambda: slides.session.study.store().nbytes > 0, 120)
    wait(lambda: not encode.encoding.job.is_running, 120)
    assert len(hub.ranges) == 1
    encode.live.setChecked(False)


def test_a_repository_that_is_typed_is_asked_for_at_the_hub(encode, hub, qtbot, wait):
    hub.gated.add("org/tiny")
    hub.cards["org/tiny"] = {"license": "mit"}
    type_in(qtbot, encode.encoder, MODEL)
    assert "to download" in encode.picker.card.text()  # at once, what is known without the hub
    wait(lambda: "mit" in encode.picker.card.text())
    text = encode.picker.card.text()
    assert "accept its terms first" in text
    assert "MB" in text
    type_in(qtbot, encode.encoder, "hf-hub:org/none")
    wait(lambda: "no model org/none" in encode.picker.card.text())
    assert encode.encoder.isEnabled()


def test_the_address_of_a_models_page(encode, hub, qtbot, wait):
    type_in(qtbot, encode.encoder, "https://huggingface.co/org/tiny/tree/main")
    assert chosen(encode) == MODEL
    wait(lambda: not encode.picker._job.is_running)


@pytest.mark.parametrize(
    "text", ["hf-hub:", "hf-hub:a/b/c", "x" * 400, "https://example.org", "/no/such/file.pt", "🔬"]
)
def test_nonsense_is_answered_in_the_card(encode, qtbot, wait, text):
    encode.encoder.lineEdit().setText(text)  # as pasted
    qtbot.keyClick(encode.encoder.lineEdit(), Qt.Key.Key_Return)
    wait(lambda: not encode.picker._job.is_running)
    qtbot.wait(20)
    said = encode.picker.card.text().replace("\u200b", "")
    assert any(
        part in said
        for part in ("no hub name", "can't be the name", "no address", "no such file", "no encoder and")
    )
    widths = [encode.picker.card.minimumSizeHint().width(), encode.minimumSizeHint().width()]
    assert max(widths) <= 300


def test_in_live_mode_too_an_encoders_warnings_are_seen(bench, encode, wait, make_slide):
    slides = bench.docks["slides"]
    slides.add_paths([make_slide("a.tif", tissue(300, 300))])
    wait(lambda: encode.row.button.isEnabled())
    encode.picker.show_name("test_vit?pretrained=false")
    encode.size_px.setValue(64)
    encode.mpp.setValue(0.5)
    encode._apply()
    encode.live.setChecked(True)
    wait(lambda: "Mind:" in encode.picker.card.text(), 120)
    assert "random weights, nothing was learned" in encode.picker.card.text()
    encode.live.setChecked(False)


def test_what_the_loaded_encoder_warns_of(encode):
    encode.picker.show_name("uni")
    encode.picker.warn(["UNI: the mean that came with the weights differs from the published one."])
    assert "Mind:</b> UNI: the mean that came" in encode.picker.card.text()
    encode.picker.show_name("virchow2")
    assert "Mind" not in encode.picker.card.text()


def test_it_fits_a_narrow_dock(encode, qtbot):
    from qtpy.QtWidgets import QWidget

    for name in ("prov-gigapath", "hibou-l", "midnight", "colour-statistics", "hf-hub:" + "x" * 90 + "/y"):
        encode.picker.show_name(name)
        qtbot.wait(10)
        widths = [w.minimumSizeHint().width() for w in encode.findChildren(QWidget) if w.isVisibleTo(encode)]
        assert max(widths) <= 300, name
        assert encode.minimumSizeHint().width() <= 300


def test_a_new_window_has_not_imported_torch(encode):
    # other tests of the process may have: what counts is that building the dock asks for nothing
    assert encode.session.study.loaded_encoder() is None
    if "torch" not in sys.modules:
        encode.picker.show_name("uni")
        assert "torch" not in sys.modules
