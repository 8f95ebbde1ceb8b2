"""What a run directory says of its run."""

from trimask.config import to_dict
from trimask.recipes.quickstart import debug
from trimask.training.run import stored_run


def test_a_run_is_read_back() -> None:
    assert stored_run(to_dict(debug())) == debug()


def test_a_run_from_before_windows_were_the_datas_own_is_read() -> None:
    stored = to_dict(debug())
    stored["slack"]["text_window"] = 128
    del stored["objective"]["reduction"]
    assert stored_run(stored).data == debug().data
    stored["data"] = {"type": "PreparedData", "folders": ["photos"], "manifests": ["0"]}
    assert stored_run(stored).data.text_window == 128
