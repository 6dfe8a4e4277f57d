"""Pictures from a bucket into one job: `python from_bucket.py s3://BUCKET/PREFIX`; a repeat goes on where one stopped.

Credentials and endpoint come as boto3 takes them: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, a role, a profile.
"""

import sys
from collections.abc import Iterator

import boto3

from sortbelt import Client

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
AT_ONCE = 16


def pictures(bucket: str, prefix: str) -> Iterator[tuple[str, bytes]]:
    """The name and the bytes of every picture below a prefix, one by one."""
    s3 = boto3.client("s3")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            if item["Key"].lower().endswith(SUFFIXES):
                yield item["Key"], s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()


def main(address: str) -> None:
    """Put them through, and tell each one's label."""
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    with Client() as client:
        # The same key names the same job, also after a crash; names that it has already are left alone.
        job = client.open_job(priority="bulk", metadata={"source": address}, idempotency_key=address)
        if not job.sealed:
            batch: list[tuple[str, bytes]] = []
            for picture in pictures(bucket, prefix):
                batch.append(picture)
                if len(batch) == AT_ONCE:
                    client.add_images(job.id, batch)
                    batch = []
            if batch:
                client.add_images(job.id, batch)
            client.seal(job.id)
        for result in job.wait().results():
            print(result.image, result.label or (result.error and result.error.code), sep="\t")


if __name__ == "__main__":
    main(sys.argv[1])
