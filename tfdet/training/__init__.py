"""Training: from a detector and an input to checkpoints.

distribution   which devices hold a replica
precision      the Keras dtype policy and the loss scale
schedule       the learning rate as a function of the step
optimizer      the update of SimpleDet: mean, finite check, clip, weight decay, momentum
variables      which variables are trained
step           one distributed step: seed, losses, gradients, update, metrics
accumulate     the same over several micro-batches
average        the moving average of the weights
checkpoint     everything a run needs to continue, and detectors from a run
run_dir        the files of a run
observer       what a run tells whoever watches it (console, TensorBoard)
loop           `Trainer`, the hyper-parameters, and `train`, which puts the parts together
run            the state of one call of `train`, and what happens between two inner loops
inner_loop     the steps that orbit's Controller asks for
stopping       SIGTERM and SIGINT
"""
