import pathlib

import pydantic
import pytest

from core import errors, settings

DATABASE = "postgresql+psycopg://ann:hunter2@db/sortbelt"
REDIS = "rediss://:hunter2@redis:6380/1"
ADMIN = "sb_00000000_" + "a" * 43


def test_without_a_variable_there_is_a_default_for_everything():
    """Nothing must be set."""
    assert settings.read({}) == settings.Settings()
    assert settings.read({"PATH": "/bin", "AWS_REGION": "x"}).port == 8000


def test_every_variable_is_read_and_typed():
    """Text comes in, numbers and paths come out."""
    read = settings.read(
        {"SORTBELT_PORT": "9", "SORTBELT_LINGER_MS": "1.5", "SORTBELT_BUNDLES": "/b", "SORTBELT_MODEL": "m"}
    )
    assert (read.port, read.linger_ms, read.bundles, read.default_bundle) == (
        9,
        1.5,
        pathlib.Path("/b"),
        pathlib.Path("/b/m"),
    )


def test_the_size_of_batches_is_learned_unless_it_is_given():
    """A word, or a number."""
    sizes = [settings.read(given).batch_size for given in ({}, {"SORTBELT_BATCH_SIZE": "auto"})]
    assert sizes == ["auto", "auto"]
    assert settings.read({"SORTBELT_BATCH_SIZE": "64"}).batch_size == 64


def test_settings_are_frozen():
    """Read once, then the same for all."""
    with pytest.raises(pydantic.ValidationError):
        settings.read({}).port = 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://x"),
        ("DATABASE_URL", ""),
        ("DATABASE_URL", "postgresql://x"),
        ("REDIS_URL", "http://x"),
        ("REDIS_URL", ""),
        ("SOURCES", "camera"),
        ("SOURCES", "a=relative"),
        ("SOURCES", "a=/x,a=/y"),
        ("PORT", "x"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "80.5"),
        ("PORT", ""),
        ("API_THREADS", "0"),
        ("API_PROCESSES", "2"),  # on SQLite
        ("MAX_BODY_BYTES", "10"),
        ("MAX_IMAGE_BYTES", "0"),
        ("MAX_IMAGES_PER_REQUEST", "0"),
        ("MAX_PIXELS", "-5"),
        ("MODEL", "../../etc"),
        ("MODEL", "Upper"),
        ("MODEL", ""),
        ("DEVICE", "gpu"),
        ("DEVICE", "cuda:x"),
        ("DECODER_PROCESSES", "0"),
        ("DECODER_PROCESSES", "many"),
        ("DECODE_SECONDS", "0"),
        ("DECODE_SECONDS", "inf"),
        ("DECODE_SECONDS", "nan"),
        ("DECODE_MEMORY_BYTES", "1000"),
        ("BATCH_SIZE", "0"),
        ("BATCH_SIZE", "5000"),
        ("BATCH_SIZE", "many"),
        ("BATCH_SIZE", "6.4"),
        ("BATCH_SIZE", ""),
        ("LINGER_MS", "-1"),
        ("LINGER_MS", "nan"),
        ("TASK_SECONDS", "0"),
        ("TASK_SECONDS", "inf"),
        ("IDLE_POLL_SECONDS", "0"),
        ("IDLE_POLL_SECONDS", "inf"),
        ("LEASE_SECONDS", "-3"),
        ("LEASE_SECONDS", "inf"),
        ("LEASE_SECONDS", "1e400"),
        ("MAX_ATTEMPTS", "0"),
        ("WATCHDOG_SECONDS", "0"),
        ("WATCHDOG_SECONDS", "nan"),
        ("WEBHOOK_ALLOW", "10.0.0.0/33"),
        ("WEBHOOK_ALLOW", "10.0.0.1/8"),
        ("WEBHOOK_ALLOW", "10.0.0"),
        ("WEBHOOK_ALLOW", "hooks.example, https://x"),
    ],
)
def test_a_bad_value_names_its_variable(name, value):
    """One sentence: which variable, what it is, what it must be."""
    with pytest.raises(errors.BadSetting) as caught:
        settings.read({f"SORTBELT_{name}": value})
    detail = caught.value.detail
    assert detail.startswith(f"SORTBELT_{name}=")
    assert detail.endswith(".")
    assert "\n" not in detail


def test_an_endless_value_is_shown_in_part():
    """The message stays readable."""
    with pytest.raises(errors.BadSetting) as caught:
        settings.read({"SORTBELT_PORT": "x" * 10_000})
    assert len(caught.value.detail) < 300


def test_all_bad_values_are_named_at_once():
    """All errors can be fixed in one go."""
    with pytest.raises(errors.BadSetting) as caught:
        settings.read({"SORTBELT_PORT": "x", "SORTBELT_BATCH_SIZE": "y"})
    assert "SORTBELT_PORT" in caught.value.detail
    assert "SORTBELT_BATCH_SIZE" in caught.value.detail


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("DATABSE_URL", "SORTBELT_DATABASE_URL"),
        ("REDIS", "SORTBELT_REDIS_URL"),
        ("BATCHSIZE", "SORTBELT_BATCH_SIZE"),
        ("XYZZY", "Unset"),
        ("MODEL_CONFIG", ""),
        ("FILE", ""),
        ("PORT_FILE_FILE", ""),
        ("", ""),
    ],
)
def test_an_unknown_variable_is_named_with_a_hint(name, hint):
    """A typo does not pass in silence."""
    with pytest.raises(errors.BadSetting) as caught:
        settings.read({f"SORTBELT_{name}": "x"})
    assert f"SORTBELT_{name} is not a setting" in caught.value.detail
    assert hint in caught.value.detail


def test_the_variables_of_the_command_are_no_settings():
    """Where the server is does not matter to the server."""
    assert settings.read({"SORTBELT_URL": "x", "SORTBELT_KEY": "y", "SORTBELT_DATA_DIR": "z"}) == settings.Settings()


def test_a_value_may_come_from_a_file(tmp_path):
    """Secrets of a container are files; the newline at the end does not belong to the secret."""
    (tmp_path / "key").write_text(f"{ADMIN}\n")
    (tmp_path / "port").write_text("9\n")
    environ = {"SORTBELT_ADMIN_KEY_FILE": str(tmp_path / "key"), "SORTBELT_PORT_FILE": str(tmp_path / "port")}
    read = settings.read(environ)
    assert (read.admin_key.get_secret_value(), read.port) == (ADMIN, 9)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    """Missing, a folder, or no text: one sentence with the variable."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "binary", ""):
        with pytest.raises(errors.BadSetting, match="SORTBELT_ADMIN_KEY_FILE") as caught:
            settings.read({"SORTBELT_ADMIN_KEY_FILE": str(path)})
        assert caught.value.detail.startswith(f"SORTBELT_ADMIN_KEY_FILE={path} cannot be read: ")


def test_a_bad_value_in_a_file_names_its_variable(tmp_path):
    """As one that is given outright."""
    (tmp_path / "port").write_text("x")
    with pytest.raises(errors.BadSetting, match="SORTBELT_PORT"):
        settings.read({"SORTBELT_PORT_FILE": str(tmp_path / "port")})


def test_a_value_and_a_file_for_it_are_one_too_many(tmp_path):
    """It would be unclear which of the two is meant."""
    (tmp_path / "port").write_text("9")
    with pytest.raises(errors.BadSetting, match="SORTBELT_PORT and SORTBELT_PORT_FILE are both set"):
        settings.read({"SORTBELT_PORT": "9", "SORTBELT_PORT_FILE": str(tmp_path / "port")})


def test_no_secret_is_shown_with_the_settings():
    """Logs and stack traces show settings; not the key, and no password within a URL."""
    read = settings.read({"SORTBELT_ADMIN_KEY": ADMIN, "SORTBELT_DATABASE_URL": DATABASE, "SORTBELT_REDIS_URL": REDIS})
    for shown in (repr(read), str(read), f"{read!r}"):
        assert ADMIN not in shown
        assert "hunter2" not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://ann:hunter2@db/sortbelt"),
        ("REDIS_URL", "http://:hunter2@redis"),
    ],
)
def test_no_secret_is_shown_with_an_error(name, value):
    """A bad URL is named, its password is not."""
    with pytest.raises(errors.BadSetting, match=f"SORTBELT_{name}") as caught:
        settings.read({f"SORTBELT_{name}": value})
    assert "hunter2" not in caught.value.detail


def test_a_program_ends_with_a_sentence_and_code_2(monkeypatch, capsys):
    """For the start of a program."""
    monkeypatch.setenv("SORTBELT_PORT", "x")
    with pytest.raises(SystemExit) as caught:
        settings.read_or_exit()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("sortbelt: SORTBELT_PORT='x' is not acceptable")


def test_the_environment_is_read_when_it_is_asked_for(monkeypatch):
    """Not at import."""
    monkeypatch.setenv("SORTBELT_PORT", "4242")
    assert settings.read().port == 4242


@pytest.mark.parametrize(
    ("blobs", "listed"),
    [
        ("/data/blobs", "a=/data"),
        ("/data/blobs", "a=/data/blobs/"),
        ("/data/blobs", "a=/data/blobs/ab"),
        ("/data/blobs", "a=/data/other/../blobs"),
        ("s3://bucket/blobs", "a=s3://bucket"),
        ("s3://bucket/blobs", "a=s3://bucket/blobs/x"),
    ],
)
def test_no_source_holds_what_people_have_sent(blobs, listed):
    """Else a key with the role submit could have the images of others classified."""
    with pytest.raises(errors.BadSetting, match="SORTBELT_SOURCES"):
        settings.read({"SORTBELT_BLOB_STORE": blobs, "SORTBELT_SOURCES": listed})
    settings.read({"SORTBELT_BLOB_STORE": blobs, "SORTBELT_SOURCES": "a=/data/blobs-2,b=s3://bucket/blobs2"})


RENAMED = {
    "DRAIN_SECONDS": ("TASK_SECONDS", "2.5"),
    "IDLE_RING_SECONDS": ("IDLE_POLL_SECONDS", "2.5"),
    "STUCK_SECONDS": ("WATCHDOG_SECONDS", "2.5"),
    "MODELS_HELD": ("MAX_LOADED_MODELS", "3"),
    "MODELS_SECONDS": ("MODEL_POLL_SECONDS", "2.5"),
    "MAX_BAD_KEYS_PER_MINUTE": ("MAX_FAILED_AUTH_PER_MINUTE", "3"),
    "DECODERS": ("DECODER_PROCESSES", "3"),
    "BLOBS": ("BLOB_STORE", "/data/x"),
}


@pytest.mark.parametrize(("old", "new", "value"), [(old, *rest) for old, rest in RENAMED.items()])
def test_a_setting_may_have_its_old_name_for_one_release(tmp_path, old, new, value):
    """Outright and from a file; both names at once are an error that names both."""
    (tmp_path / "value").write_text(value)
    field, default = new.lower(), settings.read({})
    for environ in ({f"SORTBELT_{old}": value}, {f"SORTBELT_{old}_FILE": str(tmp_path / "value")}):
        read = settings.read(environ)
        assert str(getattr(read, field)) == value
        assert read.model_copy(update={field: getattr(default, field)}) == default
    for extra in (f"SORTBELT_{new}", f"SORTBELT_{new}_FILE", f"SORTBELT_{old}_FILE"):
        with pytest.raises(errors.BadSetting, match="both set") as caught:
            settings.read({f"SORTBELT_{old}": value, extra: str(tmp_path / "value")})
        assert f"SORTBELT_{old} " in f"{caught.value.detail} "
        assert f"{extra} " in f"{caught.value.detail} "


def test_old_names_are_reported_with_the_new_ones():
    """As the doctor shows them."""
    assert {old.lower(): new.lower() for old, (new, _) in RENAMED.items()} == settings.RENAMED_FIELDS
    environ = {"SORTBELT_DECODERS": "1", "SORTBELT_BLOBS_FILE": "x", "SORTBELT_PORT": "1", "SORTBELT_URL": "x", "X": ""}
    assert settings.renamed_variables(environ) == {
        "SORTBELT_BLOBS_FILE": "SORTBELT_BLOB_STORE_FILE",
        "SORTBELT_DECODERS": "SORTBELT_DECODER_PROCESSES",
    }


def test_a_bad_value_under_an_old_name_names_the_variable_that_is_set():
    """Not one that the reader has never written."""
    with pytest.raises(errors.BadSetting, match="SORTBELT_DECODERS='0'"):
        settings.read({"SORTBELT_DECODERS": "0"})
