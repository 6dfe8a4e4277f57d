from sortbelt.local import child_env


def test_the_data_folder_is_the_default_of_settings(data_folder, monkeypatch):
    monkeypatch.setenv("PATH", "/bin")
    children = child_env.child_environment(data_folder)

    assert children["SORTBELT_DATABASE_URL"] == f"sqlite:///{data_folder}/sortbelt.db"
    assert children["SORTBELT_BLOB_STORE"] == f"{data_folder}/blobs"
    assert children["PATH"] == "/bin"


def test_what_the_caller_set_goes_before_the_data_folder(data_folder, monkeypatch):
    monkeypatch.setenv("SORTBELT_DATABASE_URL_FILE", "/secret")
    monkeypatch.setenv("SORTBELT_BLOB_STORE", "s3://b")
    children = child_env.child_environment(data_folder)

    assert "SORTBELT_DATABASE_URL" not in children
    assert children["SORTBELT_BLOB_STORE"] == "s3://b"


def test_what_the_command_line_said_goes_before_all(data_folder, monkeypatch):
    monkeypatch.setenv("SORTBELT_DATABASE_URL_FILE", "/secret")
    monkeypatch.setenv("SORTBELT_PORT", "1")
    children = child_env.child_environment(data_folder, database_url="sqlite:///x", port=2)

    assert "SORTBELT_DATABASE_URL_FILE" not in children
    assert (children["SORTBELT_DATABASE_URL"], children["SORTBELT_PORT"]) == ("sqlite:///x", "2")


def test_the_clients_own_variables_stay_with_the_client(data_folder, monkeypatch):
    for name in child_env.CLIENT_VARIABLES:
        monkeypatch.setenv(name, "x")

    assert not child_env.CLIENT_VARIABLES & child_env.child_environment(data_folder).keys()


def test_files_that_lie_about_do_not_become_part_of_the_server(data_folder):
    assert child_env.child_environment(data_folder)["PYTHONSAFEPATH"] == "1"
