# SPDX-License-Identifier: GPL-2.0-or-later
#
# Values, quotes and what is expanded when.

# build LINE...: a module whose dkms.conf ends in these lines is built; the values are seen in make.log.
build() {
    scene "$*"
    mkdir cwd
    cd cwd
    touch alpha beta
    module hello 1.0 "$@"
    try env FOO=foo-from-env dkms build hello/1.0 -k $K
}

build "MAKE[0]='echo \$kernelver \$arch \${kernel_source_dir} \$PACKAGE_NAME \$FOO; false'"
build 'MAKE[0]="echo $kernelver \$kernelver \\$kernelver \\\$kernelver \\\\\$kernelver; false"'
build "MAKE[0]='echo a \"b\" c; false'"
build "MAKE[0]='echo \"a b\" c; false'"
build "MAKE[0]=\"echo 'a  b' c; false\""
build "MAKE[0]=\"echo back\\\\slash \\\\\\\\two \\\\n; false\""
build "MAKE[0]='echo \`uname -s\` \$(uname -m); false'"
build $'MAKE[0]="echo line1\necho line2; false"'
build 'MAKE[0]="echo * a* b?ta [ab]* x; false"'
build 'MAKE[0]="*; false"'
build "MAKE[0]='echo \"*\" \\* ; false'"
build "MAKE[0]='echo ; echo ~ ; echo {a,b} ; echo !x # comment; false'"
build 'MAKE[0]="  echo   leading   and   trailing ; false  "'
build "MAKE[0]=\$'echo tab\\there \\x41; false'"
build 'MAKE[0]="echo dollar $ end; false"'
build "MAKE[0]='echo dollar \$ end \$\$x >/dev/null; false'"
build 'MAKE[0]="echo ${undefined:-default} ${kernelver%%-*} $((1+2)); false"'
build "MAKE[0]='echo \${undefined:-default} \${kernelver%%-*} \$((1+2)); false'"
build 'unset MAKE' 'MAKE+=("echo appended; false")'
build 'MAKE=("echo first; false" "second one")'
build 'MAKE[0]="echo a"; MAKE[0]+=" b; false"'
build 'PATCH+=("x.patch")' 'PATCH+=("y.patch")'
build 'f() { MAKE[0]="echo from function $1"; }' 'f arg' 'case "$kernelver" in 6.*) MAKE[0]+=" case";; esac' \
    '[[ $arch == x86_64 ]] && MAKE[0]+=" arch"' 'for x in 1 2; do MAKE[0]+=" $x"; done' 'MAKE[0]+="; false"'
build 'export MAKE="echo exported; false"'
build 'unset BUILT_MODULE_NAME' 'MAKE="echo unset-name; false"'
build "AUTOINSTALL='yes '"
build "BUILT_MODULE_NAME[0]='hel lo'"
build "PRE_BUILD='s.sh \$kernelver \"x y\"'"
build 'source ./nonexistent; MAKE=false'
build 'cd /; MAKE="pwd; false"'
build 'MAKE="false"; trap "echo trapped >&2" EXIT'
build 'exec 2>/dev/null; nosuchcmd; MAKE=false'
build 'read x; MAKE="echo read=$x; false"'
build 'BUILD_DEPENDS[0]="a b"' 'BUILD_DEPENDS[1]="c*"'
build 'BUILD_EXCLUSIVE_KERNEL="(6|7)\..*-amd64"'
build 'BUILD_EXCLUSIVE_KERNEL="("'
build 'PATCH[0]=p; PATCH_MATCH[0]="("'
build 'MAKE[1]="echo x"; MAKE_MATCH[1]="["'
build 'DEST_MODULE_LOCATION[0]="/updates/"'
build 'DEST_MODULE_LOCATION[0]="/kernel/drivers/net/\$x"'
build 'BUILT_MODULE_LOCATION[0]="."'
build 'BUILT_MODULE_LOCATION[0]="./"'
build 'BUILT_MODULE_LOCATION[0]="../build"'
build 'DEST_MODULE_NAME[0]="renamed"'
try dkms install hello/1.0 -k $K
try dkms status
try dkms remove hello/1.0 --all
build "MAKE[0]='echo 1 > file; cat file; false'"
build 'MAKE[0]="echo a#b #c; false"'
build 'MAKE[5]="x"; MAKE_MATCH[3]="y"'
build 'BUILT_MODULE_NAME=([0]=hello); DEST_MODULE_LOCATION=([0]=/updates)'
build "MAKE[0]=\$'echo a\\t\\tb ; false'"
