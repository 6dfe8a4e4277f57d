"""Forms as the HTTP clients of other languages write them; recorded from PHP 8.2 with curl 7.88, and from Go 1.19."""

import pytest

from tests.support import factories

PHP = (
    "------------------------55faa79c731aa2a9",
    'form-data; name="images[{number}]"; filename="{name}"\r\nContent-Type: image/jpeg',
    str.maketrans({'"': "%22"}),  # as browsers do
)
GO = (
    "12bf30aa0e713321dca6dec81dbccd4f3e2ba862eb5f19d0db3c68c39ee0",
    'form-data; name="images"; filename="{name}"\r\nContent-Type: application/octet-stream',
    str.maketrans({'"': '\\"'}),
)


def write_form(client, images):
    """Return a form with images and a field, as a client writes it."""
    boundary, head, escapes = client
    parts = [
        f"Content-Disposition: {head.format(number=number, name=name.translate(escapes))}\r\n\r\n".encode() + data
        for number, (name, data) in enumerate(images)
    ]
    parts.append(b'Content-Disposition: form-data; name="priority"\r\n\r\ninteractive')
    return b"".join(b"--%s\r\n%s\r\n" % (boundary.encode(), part) for part in parts) + f"--{boundary}--\r\n".encode()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("client", [PHP, GO], ids=["PHP", "Go"])
def test_a_form_of_another_language_is_read(submit_client, db, client):
    """Every file, its name in UTF-8 with quotes, and the field after them."""
    names = ["lunch.jpg", 'Küche "1".jpg']
    body = write_form(client, [(name, factories.make_image(number)) for number, name in enumerate(names)])
    response = submit_client.post("/v1/jobs", data=body, content_type=f"multipart/form-data; boundary={client[0]}")
    assert (response.status_code, response.json["priority"]) == (202, "interactive")
    assert set(factories.image_states(db)) == set(names)
