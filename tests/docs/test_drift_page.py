"""The example of docs/how-drift-decides.md, run as it is written."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-drift-decides.md"


def test_the_example_prints_what_it_says(capsys):
    code = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL).group(1)
    exec(compile(code, str(PAGE), "exec"), {})
    assert capsys.readouterr().out.strip() == re.search(r"print\(.*\)  # (.*)", code).group(1)
