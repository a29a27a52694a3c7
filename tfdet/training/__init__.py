"""Training: from a detector and an input to checkpoints.

trainer        `Trainer`, the hyper-parameters
schedule       the learning rate as a function of the step
loop           `train`: restore, steps, report, save, stop, evaluate, from top to bottom

checks         what is refused before a run begins
plan           how long a run is, and what is due after which step
start_table    what a run is, in a table
controller     orbit's Controller, quiet
inner_loop     the steps that it asks for
progress       what their figures say
evaluation     what training knows of an evaluation
figures        the names of its figures
validation_loss  the training losses over the evaluation set
overfitting    whether images are learnt by heart
patience       whether a run that becomes no better ends
observer       what a run tells whoever watches it (console, TensorBoard)
stopping       SIGTERM and SIGINT

update         what updates a detector, made from the hyper-parameters
step           one distributed step: seed, losses, gradients, update, metrics
accumulate     the same over several micro-batches
optimizer      the update of SimpleDet: mean, finite check, clip, weight decay, momentum
average        the moving average of the weights
variables      which variables are trained, and which move without
teamwork       several workers: agreement at the start, one state, one end
distribution   which devices hold a replica
precision      the Keras dtype policy and the loss scale

checkpoint     everything a run needs to continue, and detectors from a run
run_dir        the files of a run
"""
