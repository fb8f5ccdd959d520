# environment STACK REQUIREMENT: sets $python to the interpreter of the clone's own environment of that stack, which is
# made from constraints/ when it is first asked for. Read by `launch` and `test`.
clone=$(dirname "$(dirname "$(readlink -f "$0")")")
export PYTHONPATH="$clone${PYTHONPATH:+:$PYTHONPATH}" # this clone's code, whatever the environment has
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}" # TensorFlow's notes on start bury ours
say() { echo "robust_tf: $*" >&2; }

environment() {
    case $1 in
        default) folder=.venv fitting="3.11 3.12 3.13" ;;
        addons) folder=.venv-addons fitting=3.11 ;;
    esac
    constraints=constraints/$1.txt requirement=$2
    python=$clone/$folder/bin/python
    ready=$clone/$folder/robust_tf.ready
    # What it is made of; an environment does not survive being moved. "test" has all that the commands need.
    key=$(cd "$clone" && { pwd -P && cat pyproject.toml "$constraints"; } | cksum)
    complete() {
        grep -qxF "$key $requirement" "$ready" 2>/dev/null || grep -q "^$key .*test]$" "$ready" 2>/dev/null
    }
    if complete; then return; fi
    # One launcher at a time. A pip that outlives a killed launcher still holds the lock.
    if ! [ -w "$clone" ]; then
        say "$clone cannot be written to. Make it writable, or install robust_tf in an environment of your own" \
            "and activate it."
        exit 1
    fi
    exec 9>"$clone/$folder.lock"
    if command -v flock >/dev/null && ! flock -n 9; then
        say "waiting for another launcher, which is making $folder"
        flock 9
    fi
    if ! complete; then make_environment; fi
    exec 9>&-
}

make_environment() {
    say "making $folder with the pinned packages (once; a minute or two)"
    # What an interrupted or outdated set-up left is removed; only a complete environment is added to.
    had=$(grep "^$key " "$ready" 2>/dev/null) || had=
    if ! [ "$had" ]; then
        base=$(fitting_python)
        rm -rf "${clone:?}/$folder"
        "$base" -Im venv "$clone/$folder" >&2
    fi
    rm -f "$ready"
    if ! (cd "$clone" && "$python" -Im pip install --quiet --no-input --disable-pip-version-check --no-compile \
        -c "$constraints" -e "$requirement" >&2); then
        say "pip failed as it says above. Run this again once that is mended, or install robust_tf in an" \
            "environment of your own and activate it."
        exit 1
    fi
    printf '%s\n' ${had:+"$had"} "$key $requirement" >"$ready" # a line for each requirement that was added
}

fitting_python() {
    found=
    for name in python3.11 python3.12 python3.13 python3 python; do
        # Tried by running it: a pyenv shim is on the path even where its version is not installed.
        version=$("$name" -Ic 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        case " $fitting " in *" $version "*) echo "$name" && return ;; esac
        found="$found${found:+, }$name is $version"
    done
    say "$constraints needs Python $fitting; found: ${found:-no Python}. Install" \
        "python3.11 (Debian: apt install python3.11-venv) and run this again."
    exit 1
}
