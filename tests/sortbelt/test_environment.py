from sortbelt import environment


def test_the_data_folder_answers_what_nobody_set(folder):
    children = environment.of_children(folder, {"PATH": "/bin"})

    assert children["SORTBELT_DATABASE_URL"] == f"sqlite:///{folder}/sortbelt.db"
    assert children["SORTBELT_BLOBS"] == f"{folder}/blobs"
    assert children["PATH"] == "/bin"


def test_what_the_caller_set_goes_before_the_data_folder(folder):
    children = environment.of_children(folder, {"SORTBELT_DATABASE_URL_FILE": "/secret", "SORTBELT_BLOBS": "s3://b"})

    assert "SORTBELT_DATABASE_URL" not in children
    assert children["SORTBELT_BLOBS"] == "s3://b"


def test_what_the_command_line_said_goes_before_all(folder):
    environ = {"SORTBELT_DATABASE_URL_FILE": "/secret", "SORTBELT_PORT": "1"}
    children = environment.of_children(folder, environ, database_url="sqlite:///x", port=2)

    assert "SORTBELT_DATABASE_URL_FILE" not in children
    assert (children["SORTBELT_DATABASE_URL"], children["SORTBELT_PORT"]) == ("sqlite:///x", "2")


def test_the_clients_own_variables_stay_with_the_client(folder):
    children = environment.of_children(folder, dict.fromkeys(environment.CLIENTS, "x"))

    assert not environment.CLIENTS & children.keys()


def test_files_that_lie_about_do_not_become_part_of_the_server(folder):
    assert environment.of_children(folder, {})["PYTHONSAFEPATH"] == "1"
