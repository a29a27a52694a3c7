"""Data sets: annotation sources -> records with a manifest -> the input pipeline.

    coco.py, voc.py   annotation files            -> AnnotationSet   (annotations.py)
    shapes.py         drawn shapes                -> AnnotationSet
    convert.py        AnnotationSet               -> shards, index and manifest (writer.py, schema.py, manifest.py)
    scan.py           records made elsewhere      -> index and manifest
    inputs.py         shards, index and manifest  -> tf.data.Dataset of Batch   (schema.py, resize.py, jitter.py)
    doctor.py         which record of which shard is broken

Nothing is imported here: the workers of a conversion import parts of this package without TensorFlow.
"""
