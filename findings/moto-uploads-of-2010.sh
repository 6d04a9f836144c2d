#!/bin/sh
# moto says of every multipart upload that it was begun in 2010.
#
# ListMultipartUploads has the moment at which an upload was begun, and who cleans up aborts those
# that are older than some time. moto's answer has the same moment for all: 2010-11-10. So a cleaner
# that is right on S3 aborts, on moto, what somebody is just uploading, and its next part is answered
# with status 500.
#
# Seen with moto 5.2.5 on Python 3.11. Exit code 0 if it is still so.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'moto[s3]==5.2.5'
AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import sys
from datetime import datetime, timezone
from importlib.metadata import version

import boto3
from moto import mock_aws

with mock_aws():
    client = boto3.client("s3", "us-east-1")
    client.create_bucket(Bucket="images")
    begun = datetime.now(timezone.utc)
    client.create_multipart_upload(Bucket="images", Key="layer")
    (upload,) = client.list_multipart_uploads(Bucket="images")["Uploads"]
print(f"moto {version('moto')}: begun in {begun.year}, listed as begun in {upload['Initiated'].year}")
sys.exit(upload["Initiated"].year != 2010)
PYTHON
