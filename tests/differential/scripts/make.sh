# SPDX-License-Identifier: GPL-2.0-or-later
#
# Which command builds, and with how many jobs.

# build LINE...: a module whose dkms.conf ends in these lines is built.
build() {
    scene "$*"
    module hello 1.0 "$@"
    try dkms build hello/1.0 -k $K
}

# Several commands, each of which makes the module.
zero='MAKE[0]="echo zero; sh ./compile hello \$kernelver"'
one='MAKE[1]="echo one; sh ./compile hello \$kernelver"'
two='MAKE[2]="echo two; sh ./compile hello \$kernelver"'
build "$zero"
build 'unset MAKE' 'MAKE="echo plain; sh ./compile hello \$kernelver"'
build "$zero" 'MAKE_MATCH[0]="^6"'
build "$zero" "$one" 'MAKE_MATCH[1]="^5"' "$two" 'MAKE_MATCH[2]="^6\."'
build "$zero" "$one" 'MAKE_MATCH[1]="^6"' "$two" 'MAKE_MATCH[2]="amd64$"'
build "$zero" "$one"
build "$zero" 'MAKE_MATCH[0]="^6"' "$one" 'MAKE_MATCH[1]="^5"'
build 'MAKE[0]="cd /tmp; pwd; false"'
build 'MAKE[0]="sh ./compile hello $kernelver; cd /; false; true"'
build 'MAKE[0]="make-like-name"'
build 'MAKE[0]="make"'
build "MAKE[0]=\"'make' nothing\""
build 'MAKE[0]=" make nothing"'
build 'MAKE[0]="cd . ; make nothing"'

# build_c TITLE COMMAND...: a module of C is built.
build_c() {
    scene "$1"
    sources hello 1.0
    try "${@:2}" hello/1.0 -k $K
}

build_c 'one job' dkms build -j 1
build_c 'no limit' dkms build -j 0
build_c 'jobs of the environment' env parallel_jobs=1 dkms build
build_c 'jobs of the environment, and an option' env parallel_jobs=1 dkms build -j 2

scene 'jobs of framework.conf'
sources hello 1.0
echo 'parallel_jobs=1' >/etc/dkms/framework.conf.d/j.conf
try dkms build hello/1.0 -k $K
try dkms build hello/1.0 -k $K -j 3 --force

scene 'the command of another age'
sources hello 1.0 'MAKE[0]="make -C ${kernel_source_dir} M=${dkms_tree}/${PACKAGE_NAME}/${PACKAGE_VERSION}/build"'
try dkms build hello/1.0 -k $K

scene 'another command for other kernels only'
sources hello 1.0 'MAKE[0]="false"' 'MAKE_MATCH[0]="^5"'
try dkms build hello/1.0 -k $K

scene 'many words'
module hello 1.0
try dkms install hello/1.0 -k $K --verbose
try dkms remove hello/1.0 --all --verbose
echo 'verbose=yes' >/etc/dkms/framework.conf.d/v.conf
try dkms build hello/1.0 -k $K

scene 'no words'
module hello 1.0
try dkms install hello/1.0 -k $K -q
try dkms status
try dkms build hello/1.0 -k 9.9.9 -q
try dkms -q remove hello/1.0 --all
try dkms install hello/1.0 -k $K --quiet --verbose

scene 'a strange umask, and nothing to read or to write to'
module hello 1.0
try bash -c "umask 077; dkms build hello/1.0 -k $K; dkms status"
try bash -c 'dkms status >&-; echo rc=$?'
try bash -c 'dkms status 2>&- <&-; echo rc=$?'
try env PATH=/usr/bin:/bin /usr/sbin/dkms install hello/1.0 -k $K
