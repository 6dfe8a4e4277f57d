#!/bin/sh
# Create the secrets that docker-compose.yml passes to the services: sh deploy/secrets.sh [FOLDER]
# Existing files are never overwritten. Only the owner can open the folder; the files in it are world-readable, because
# Docker mounts them unchanged and the services run under other users than you.
set -eu

folder="${1:-$(dirname "$0")/secrets}"

random_hex() { # BYTES
    od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'
}

keep() { # NAME CONTENT
    if [ -e "$folder/$1" ]; then
        echo "kept $folder/$1"
        return
    fi
    printf '%s\n' "$2" >"$folder/.$1"
    chmod 0444 "$folder/.$1"
    mv "$folder/.$1" "$folder/$1"
    echo "made $folder/$1"
}

needs() { # FILE, PASSWORD FILE that it depends on
    if [ -e "$folder/$1" ] && [ ! -e "$folder/$2" ]; then
        echo "secrets.sh: $folder/$1 holds a password, but $folder/$2 is missing: restore it, or remove both files." >&2
        exit 1
    fi
}

umask 077
mkdir -p "$folder"
chmod 0700 "$folder"
needs database_url postgres_password
needs redis_acl redis_password
needs redis_url redis_password

keep admin_key "sb_$(random_hex 4)_$(head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n')"
keep postgres_password "$(random_hex 32)"
keep redis_password "$(random_hex 32)"

postgres_password=$(cat "$folder/postgres_password")
redis_password=$(cat "$folder/redis_password")
digest=$(printf '%s' "$redis_password" | sha256sum | cut -d ' ' -f 1)
keep database_url "postgresql+psycopg://sortbelt:$postgres_password@postgres/sortbelt"
keep redis_url "redis://:$redis_password@redis:6379/0"
# A client with the password can exchange messages, and run Lua scripts, which the locks of Celery's transport need and
# which Redis confines to itself; it cannot reconfigure the server, load modules or flush it.
keep redis_acl "user default on #$digest ~* &* +@all -@admin -@dangerous +info"
