# SPDX-License-Identifier: GPL-2.0-or-later
# Sources configuration files and prints, NUL-separated, what they set: NAME, index, value, NAME, index, value, ...
#
# Arguments: the names to print (one word list), the number of variables and the variables (NAME=VALUE), the number
# of files and the files, then NAME=VALUE lines that beat all files and are taken as they are. Records go to
# standard output, which nothing else reaches.
#
# The files are evaluated twice, because the format always was: their values are split into words, globbed and
# joined by blanks, and the result is evaluated once more as NAME[i]="value". A literal $kernelver is expanded by
# that, quotes inside quotes vanish, newlines become blanks. zfs and others rely on it.

exec 3>&1 >/dev/null
__names=($1) __count=$2
shift 2
while ((__count-- > 0)); do
    declare -- "$1"
    shift
done
__count=$1
shift
__files=("${@:1:__count}")
shift "$__count"
__last=("$@")
set --

# Sources file $1 and prints the first evaluation's result, one assignment for each value. Runs in a subshell, so
# that functions, options and other variables of the file end with it.
__source() {
    local __n __i __is __v __line
    exec 3>&- 4>&1 </dev/null
    . "$1" 4>&- >/dev/null
    for __n in "${__names[@]}"; do
        eval "__is=(\"\${!$__n[@]}\")"
        for __i in "${__is[@]}"; do
            __v="$__n[$__i]"
            set -- $__n[$__i]=\"${!__v}\"
            __line=
            for __v; do
                __line+="${__line:+ }$__v"
            done
            printf '%s\036' "$__line" >&4
        done
    done
}

for __file in "${__files[@]}"; do
    # A $(...) would wait for all that the file leaves in the background, hence the NUL that ends the text. The
    # alternative keeps a file's own `set -e` from ending its evaluation; bash forgets a coprocess that has ended,
    # so it waits until it was heard.
    coproc __reader { (__source "$__file" || :); printf '\0'; read -r; }
    IFS=$'\036' read -r -d '' -u "${__reader[0]}" -a __lines
    echo >&"${__reader[1]}"
    wait "$__reader_PID"
    # One by one: a value that falls apart takes no other with it. A quote that it leaves open would have bash stumble
    # over the rest of this text, but for another eval.
    for __line in "${__lines[@]}"; do
        eval "$__line"
    done
    eval :
    for __v in "${!DKMS_DIRECTIVE@}"; do
        [[ ${!__v} == *=* ]] && eval "${!__v%%=*}=\"${!__v#*=}\""
    done
done
for __v in "${__last[@]}"; do
    printf -v "${__v%%=*}" %s "${__v#*=}"
done

for __n in "${__names[@]}"; do
    eval "__is=(\"\${!$__n[@]}\")"
    for __i in "${__is[@]}"; do
        __v="$__n[$__i]"
        printf '%s\0%s\0%s\0' "$__n" "$__i" "${!__v}" >&3
    done
done
