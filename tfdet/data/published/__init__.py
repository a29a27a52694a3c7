"""Data sets that are published: what is known of them, and how they become data set folders here.

    plan = plan_fetch(data_set_called("coco2017"), "data")     # plan.py
    confirm([plan], yes=True)
    fetch(plan, console)                                       # fetch.py: data/coco_train, data/coco_val

`table.py` lists them. Nothing is imported here: manifests name what makes a folder.
"""
