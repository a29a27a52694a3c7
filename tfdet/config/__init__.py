"""Gin configuration: register what can be configured, read gin files, refuse what gin lets pass in silence.

    from tfdet import config

    @config.configurable
    class Trainer:
        def __init__(self, steps: int = 100): ...

    config.parse(["gin_configs/faster_r50v1_c4.gin"], ["Trainer.steps = 10"])
    trainer = Trainer()
    config.check_all_bindings_used()

`parse` refuses unknown names, mistyped scopes, undefined or unused macros and values of a wrong type;
`check_all_bindings_used` refuses bindings that no code read. Every error is one line with the file, the line and a
"did you mean". docs/configuration.md is the guide.
"""

from tfdet.config.files import find_gin_file, gin_configs_folder
from tfdet.config.parsing import parse
from tfdet.config.registration import configurable, declare_scope, explain, original_exception
from tfdet.config.text import config_str, operative_config_str
from tfdet.config.usage import check_all_bindings_used, is_bound
from tfdet.config.zoo import Row, zoo_rows

__all__ = [
    "Row",
    "check_all_bindings_used",
    "config_str",
    "configurable",
    "declare_scope",
    "explain",
    "find_gin_file",
    "gin_configs_folder",
    "is_bound",
    "operative_config_str",
    "original_exception",
    "parse",
    "zoo_rows",
]
