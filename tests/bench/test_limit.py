"""The products of a step: all that it computes, once each, and computed again as they were."""

from __future__ import annotations

import collections

import numpy as np
import tensorflow as tf

from tfdet.bench.limit import Product, by_part, compute, measure_limit, products_of


def a_step():
    """A convolution of a frozen kernel, two equal ones of a trained kernel, a product; no gradient by the image."""
    image = tf.random.uniform([2, 8, 8, 3])  # nothing that TensorFlow could compute beforehand
    frozen, kernel, matrix = tf.ones([3, 3, 3, 4]), tf.ones([3, 3, 4, 4]), tf.ones([256, 5])
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch([kernel, matrix])
        x = tf.nn.conv2d(image, frozen, 1, "SAME")
        x = tf.nn.conv2d(tf.nn.conv2d(x, kernel, 1, "SAME"), kernel, 1, "SAME")
        loss = tf.reduce_sum(tf.square(tf.reshape(x, [2, 256]) @ matrix))
    return tape.gradient(loss, [kernel, matrix])


def test_every_product_is_counted_with_what_it_was_given():
    found = products_of(a_step)
    by_kind = collections.Counter({product.kind: 0 for product in found})
    for product, count in found.items():
        by_kind[product.kind] += count
    # Of the frozen kernel no gradient, neither by it nor by the image; of the first trained one none by its input.
    assert by_kind == {"Conv2D": 3, "Conv2DBackpropInput": 1, "Conv2DBackpropFilter": 2, "MatMul": 3}
    (first,) = (product for product in found if product.inputs[0] == ("float32", 2, 8, 8, 3))
    assert first.inputs[1] == ("float32", 3, 3, 3, 4)
    assert dict(first.attributes)["strides"] == (1, 1, 1, 1) and dict(first.attributes)["padding"] == "SAME"
    sizes = {product.inputs[1] for product in found if product.kind == "Conv2DBackpropFilter"}
    assert sizes == {("sizes", 3, 3, 4, 4)}


def test_the_products_alone_are_computed_every_one():
    conv = (("strides", (1, 1, 1, 1)), ("padding", "SAME"), ("explicit_paddings", ()), ("data_format", "NHWC"))
    given = (("float32", 1, 4, 4, 2), ("float32", 3, 3, 2, 2))
    matrix = Product("MatMul", (("float32", 3, 2), ("float32", 2, 5)), (("transpose_a", False), ("transpose_b", False)))
    wanted = 0.0
    values = {shape: tf.random.stateless_normal(shape[1:], [0, 0]) for shape in (*given, *matrix.inputs)}
    wanted += 3 * float(tf.nn.conv2d(*(values[shape] for shape in given), 1, "SAME")[0, 0, 0, 0])
    wanted += 2 * float(tf.matmul(*(values[shape] for shape in matrix.inputs))[0, 0])
    run = compute(collections.Counter({Product("Conv2D", given, conv): 3, matrix: 2}))
    np.testing.assert_allclose(run(), wanted, rtol=1e-5)


def test_both_sides_are_measured_and_their_ops_added_up_by_part():
    def step():
        with tf.name_scope("update"):
            return [tf.sort(tf.random.uniform([100_000])), *a_step()]

    limit = measure_limit(a_step, tf.function(step), repeats=1)
    assert limit.products == 9 and min(*limit.step, *limit.limit, limit.memory_peak) > 0
    assert limit.parts["update"].others > 0
    assert sum(part.limit for part in limit.parts.values()) > 0 < sum(part.products for part in limit.parts.values())
    between = [part.between for part in limit.parts.values()]
    assert between == sorted(between, reverse=True)


def test_ops_are_added_up_by_their_outermost_scope():
    step = {
        ("gradient_tape/neck_1/p2_1/Conv2DBackpropFilter", "_MklNativeConv2DBackpropFilter"): 2.0,
        ("neck/p2/BiasAdd", "_MklNativeFusedConv2D"): 3.0,
        ("update/cond/then/_7/update/cond/Apply_3", "ResourceApplyKerasMomentum"): 0.5,
        ("ArithmeticOptimizer/Reorder_neck/Cast", "Cast"): 0.25,
        ("AddN_3", "AddN"): 0.125,
        ("stray/Pack", "Pack"): 1e-6,
    }
    limit = {("neck/Conv2D", "_MklNativeConv2D"): 4.0, ("neck/strided_slice", "StridedSlice"): 1.0}
    assert by_part(step, limit) == {
        "neck": (4.0, 5.0, 0.0),
        "update": (0.0, 0.0, 0.5),
        "Reorder_neck": (0.0, 0.0, 0.25),
        "other": (0.0, 0.0, 0.125 + 1e-6),
    }
