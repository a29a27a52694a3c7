"""How the library of custom ops is found, checked and chosen."""

from types import SimpleNamespace

import pytest
import tensorflow as tf

from tfdet.errors import UserError
from tfdet.ops import library_file, native


@pytest.fixture
def load(monkeypatch):
    """`load(path, mode)`: a fresh look for the library, past the one that this process may have loaded."""

    def run(path, mode="auto"):
        monkeypatch.setenv("TFDET_OPS", mode)
        monkeypatch.setenv("TFDET_OPS_LIBRARY", str(path))
        return native.state.__wrapped__()

    return run


@pytest.fixture
def library(tmp_path):
    """`library(tensorflow, cuda)`: a file that says it was built for that, and is no library otherwise."""

    def write(tensorflow=tf.__version__, cuda="none", archs=""):
        path = tmp_path / "ops.so"
        marker = f"tfdet_ops_build{{tensorflow={tensorflow};cuda={cuda};archs={archs}}}"
        path.write_bytes(b"\x00\x01" + marker.encode() + b"\x00")
        library_file.seal(path)
        return path

    return write


def test_a_missing_library_is_named_with_the_way_to_build_it(load, tmp_path):
    state = load(tmp_path / "absent.so")
    assert state.library is None and state.path is None
    assert "absent.so not found" in state.reason and "make ops" in state.reason


def test_a_foreign_file_is_not_loaded(load, tmp_path):
    (tmp_path / "ops.so").write_bytes(b"\x7fELF something else")
    state = load(tmp_path / "ops.so")
    assert state.library is None and "no library of tfdet's ops" in state.reason


def test_a_library_for_another_tensorflow_is_not_loaded(load, library, monkeypatch):
    monkeypatch.setattr(tf, "load_op_library", lambda path: pytest.fail("must not be loaded"))
    state = load(library(tensorflow="2.19.1"))
    assert state.library is None
    assert "built for TensorFlow 2.19.1, this is " + tf.__version__ in state.reason


def test_a_cpu_library_on_a_gpu_machine_is_not_used(load, library, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [SimpleNamespace(name="GPU:0")])
    state = load(library())
    assert state.library is None and "no GPU kernels" in state.reason and "CUDA=1" in state.reason


def test_a_damaged_library_says_why_it_does_not_load(load, library):
    state = load(library())
    assert state.library is None and "does not load" in state.reason


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "as linked"])
def test_a_library_cut_short_is_refused_before_it_is_loaded(load, custom_ops, monkeypatch, tmp_path, sealed):
    """The loader maps the file: what is cut off is a SIGBUS when it is touched."""
    monkeypatch.setattr(tf, "load_op_library", lambda path: pytest.fail("must not be loaded"))
    path = tmp_path / "ops.so"
    path.write_bytes(native.state().path.read_bytes())
    if sealed:
        library_file.seal(path)
    whole = path.read_bytes()
    if not sealed:
        whole = whole.split(b"tfdet_ops_seal{")[0]
    assert library_file.damage(whole) is None
    marker = whole.index(b"tfdet_ops_build{") + 100  # what follows is not needed to know it for one of tfdet's
    for size in (marker, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        path.write_bytes(whole[:size])
        reason = load(path).reason
        assert "is cut short" in reason or "is damaged" in reason or "no library" in reason, (size, reason)


def test_a_sealed_library_with_a_changed_byte_is_refused(load, library, monkeypatch):
    monkeypatch.setattr(tf, "load_op_library", lambda path: pytest.fail("must not be loaded"))
    path = library()
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    assert "its digest is not that of its build" in load(path).reason
    path.write_bytes(content[:1] + content)
    assert "bytes, " in load(path).reason and "were built" in load(path).reason
    library_file.seal(path)
    assert path.read_bytes() == content[:1] + content, "a sealed library is sealed once"


def test_missing_ops_are_named(load, library, monkeypatch):
    module = SimpleNamespace(**{native._function_name(op): None for op in native.OPS[1:]})
    monkeypatch.setattr(tf, "load_op_library", lambda path: module)
    state = load(library())
    assert state.library is None and f"lacks {native.OPS[0]}." in state.reason


def test_a_fitting_library_is_used(load, library, monkeypatch):
    module = SimpleNamespace(**{native._function_name(op): None for op in native.OPS})
    monkeypatch.setattr(tf, "load_op_library", lambda path: module)
    state = load(library(cuda="12.9", archs="80,90"))
    assert state.library is module
    assert state.info == native.BuildInfo(tf.__version__, "12.9", ("80", "90"))


def test_native_makes_a_missing_library_an_error(load, tmp_path):
    with pytest.raises(UserError, match="TFDET_OPS=native, but .*absent.so not found"):
        load(tmp_path / "absent.so", mode="native")


def test_python_never_looks(load, library, monkeypatch):
    monkeypatch.setattr(tf, "load_op_library", lambda path: pytest.fail("must not be loaded"))
    assert load(library(), mode="python").reason == "switched off by TFDET_OPS=python"


def test_an_unknown_mode_is_refused(load, tmp_path):
    with pytest.raises(UserError, match="TFDET_OPS=fast: expected one of auto, native, python"):
        load(tmp_path, mode="fast")


def test_blocks_choose_the_implementation():
    with native.implementation("python"):
        assert not native.in_use()
    with pytest.raises(UserError, match="Received: 'cuda'"), native.implementation("cuda"):
        pass


def test_the_choice_is_described():
    with native.implementation("python"):
        assert native.describe().startswith("TensorFlow's own (")


def test_op_names_become_function_names():
    assert native._function_name("TfdetRoiAlignGrad") == "tfdet_roi_align_grad"
