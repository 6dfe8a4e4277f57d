"""Classify the images of a bucket in one job: `python from_bucket.py s3://BUCKET/PREFIX`; a repeat resumes the job.

Credentials and endpoint are those of boto3: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, a role, a profile.
"""

import sys
from collections.abc import Iterator

import boto3

from sortbelt import Client

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl")
IMAGES_PER_REQUEST = 16


def read_images(bucket: str, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of every image below a prefix."""
    s3 = boto3.client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            if item["Key"].lower().endswith(SUFFIXES):
                yield item["Key"], s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()


def main(url: str) -> None:
    """Submit the images, wait, and print each label."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    with Client() as client:
        # The same key returns the same job, also after a crash; names that it already has are skipped.
        job = client.open_job(priority="bulk", metadata={"source": url}, idempotency_key=url)
        if not job.sealed:
            batch: list[tuple[str, bytes]] = []
            for image in read_images(bucket, prefix):
                batch.append(image)
                if len(batch) == IMAGES_PER_REQUEST:
                    client.add_images(job.id, batch)
                    batch = []
            if batch:
                client.add_images(job.id, batch)
            client.seal(job.id)
        for result in job.wait().results():
            print(result.image, result.label or (result.error and result.error.code), sep="\t")


if __name__ == "__main__":
    main(sys.argv[1])
