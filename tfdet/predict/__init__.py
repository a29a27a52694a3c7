"""Detects on images: trained detectors out of runs, weights files and exports, what images they take, what they find.

sources        the images that a person names: files, folders, patterns, arrays, PIL images
restore        weights of a run or of a file, and the configuration's size of test images
augment        test-time augmentation
float32        detection is in float32, whatever the process has set
predictors     one call for a detector and for an exported model
exported       an exported model as it is read
found          what was found on one image
coco_records   the same as COCO's result records
files          annotated pictures and a json file for many images
"""
