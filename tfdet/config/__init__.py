"""Gin configuration: register what can be configured, read gin files, refuse what gin lets pass in silence.

    from tfdet import config

    @config.configurable
    class Trainer:
        def __init__(self, steps: int = 100): ...

    configuration = config.parse(["gin_configs/faster_r50v1_c4.gin"], ["Trainer.steps = 10"])
    trainer = configuration.build(Trainer)
    configuration.check_all_bindings_used()

`parse` refuses unknown names, mistyped scopes, undefined or unused macros and values of a wrong type, outside of a
`Literal` or of a range (`tfdet.config.ranges`), which every call from Python refuses as well; `check_all_bindings_used`
refuses bindings that no code read. Every error is one line with the file, the line and a "did you mean". A
`Configuration` is an object: gin's own state is as it was but while one is `active`.
docs/configuration.md is the guide.
"""

from tfdet.config.configuration import Configuration
from tfdet.config.files import find_gin_file, gin_configs_folder
from tfdet.config.parsing import extended, parse
from tfdet.config.registration import configurable, declare_scope, explain, original_exception, register_all
from tfdet.config.zoo import Row, zoo_rows

__all__ = [
    "Configuration",
    "Row",
    "configurable",
    "declare_scope",
    "explain",
    "extended",
    "find_gin_file",
    "gin_configs_folder",
    "original_exception",
    "parse",
    "register_all",
    "zoo_rows",
]
