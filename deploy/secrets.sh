#!/bin/sh
# Makes the secrets that docker-compose.yml hands to the services: sh deploy/secrets.sh [FOLDER]
# What is there is kept, never overwritten. The folder is closed to all but its owner; the files in it are readable,
# because Docker mounts them as they are and the services run under other users than you.
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

needs() { # FILE, the PASSWORD that it holds
    if [ -e "$folder/$1" ] && [ ! -e "$folder/$2" ]; then
        echo "secrets.sh: $folder/$1 holds a password, but $folder/$2 is gone: bring it back, or remove both." >&2
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
# Whoever has the password can pass messages, but not reconfigure the server, load code into it, or wipe it.
keep redis_acl "user default on #$digest ~* &* +@all -@admin -@dangerous +info"
