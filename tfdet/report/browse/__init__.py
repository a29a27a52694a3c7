"""One HTML page of a data set or of predictions, to look through.

run            from folders and files to the page
collection     what is looked at: pictures with objects, splits, classes
data_set       data sets as a collection
predictions    detections in json, alone or beside a data set
findings       what is wrong or odd with each picture
choice         which pictures the page shows
shapes         masks as outlines
page           the page
"""
