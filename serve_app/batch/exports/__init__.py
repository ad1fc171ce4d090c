"""Writes results in the formats of other tools.

jobs.py        a result with the paths of its pictures; here a job is one row of the manifest with its result
reading.py     reads the output folder of a batch, or saved documents, as jobs
catalogue.py   collects the pictures and categories of jobs, each once
laid_out.py    stores results so that each can be read by its number
formats.py     the table of formats
table.py       flat rows: CSV, Parquet
report.py      one HTML file; report_parts.py writes its parts, report_style.py has its style sheet
coco.py        COCO instances, masks as RLE or as polygons
yolo.py        YOLO segmentation: a folder of labels and images
"""
