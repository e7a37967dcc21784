# SPDX-License-Identifier: GPL-2.0-or-later
# Sources configuration files and prints, NUL-separated, what they set: NAME, index, value, NAME, index, value, ...
#
# The argument is a list of the names to print. Questions come on standard input, in fields that end with NUL: the
# number of variables and the variables (NAME=VALUE), the number of files and the files, the number of lines that beat
# all files and these lines (NAME=VALUE), which are taken as they are. Each question is answered in a subshell, so
# whatever its files do ends with it. Records go to standard output, which nothing else reaches; after those of a
# question comes one with an empty name and the question's number, and a NUL on standard error. Where a file could not be
# begun with, because there are no more processes or descriptors, nothing comes any more.
#
# The files are evaluated twice, because the format always was: their values are split into words, globbed and
# joined by blanks, and the result is evaluated once more as NAME[i]="value". A literal $kernelver is expanded by
# that, quotes inside quotes vanish, newlines become blanks. zfs and others rely on it.

exec 3>&1 >/dev/null
__names=($1) __number=0 __next=0
set --
mapfile -d '' -t __fields
exec </dev/null

# Takes the next fields that belong together into array $1.
__take() {
    local -n __taken=$1
    __taken=("${__fields[@]:__next + 1:__fields[__next]}")
    ((__next += __fields[__next] + 1))
}

# Sources file $1 and prints the first evaluation's result, one assignment for each value. Runs in a subshell, so
# that functions, options and other variables of the file end with it.
__source() {
    local __n __i __is __v __line
    exec 3>&- 4>&1 >/dev/null </dev/null || return
    printf ':\036' >&4
    . "$1" 4>&-
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

while ((__next < ${#__fields[@]})); do
    __take __variables
    __take __files
    __take __last
    (
        for __v in "${__variables[@]}"; do
            declare -- "$__v"
        done
        for __file in "${__files[@]}"; do
            # A $(...) would wait for all that the file leaves in the background, hence the NUL that ends the text. The
            # alternative keeps a file's own `set -e` from ending its evaluation; bash forgets a coprocess that has
            # ended, so it waits until it was heard.
            coproc __reader { (__source "$__file" || :); printf '\0'; read -r; }
            IFS=$'\036' read -r -d '' -u "${__reader[0]}" -a __lines
            echo >&"${__reader[1]}"
            wait "$__reader_PID"
            # Otherwise it would be taken for a file that sets nothing.
            [[ ${__lines-} == : ]] || exit 99
            # One by one: a value that falls apart takes no other with it. A quote that it leaves open would have bash
            # stumble over the rest of this text, but for another eval.
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
    )
    [ $? != 99 ] || exit
    printf '\0%d\0\0' "$((__number++))" >&3
    printf '\0' >&2
done
