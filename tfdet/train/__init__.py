"""Training: from a detector and an input to checkpoints.

    distribution   which devices hold a replica
    precision      the Keras dtype policy and the loss scale
    schedule       the learning rate as a function of the step
    optimizer      the update of SimpleDet: mean, finite check, clip, weight decay, momentum
    step           one distributed step: seed, losses, gradients, update, metrics
    checkpoint     everything a run needs to continue, and detectors from a run
    run_dir        the files of a run
    observer       what a run tells whoever watches it (console, TensorBoard)
    loop           `Trainer`, the hyper-parameters, and `train`, which puts the parts together
    inner_loop     the part of the loop that orbit's Controller calls
"""
