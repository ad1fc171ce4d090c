"""Results in the formats of other tools.

jobs.py        a result with where its pictures are
reading.py     the output folder of a batch, or a saved document -> jobs
catalogue.py   jobs -> pictures and categories, each once
formats.py     the table of formats
table.py       flat rows: CSV, Parquet
report.py      one HTML file; report_parts.py, report_style.py: what it is made of
coco.py        COCO instances, masks as RLE or as polygons
yolo.py        YOLO segmentation: a folder of labels and images
"""
