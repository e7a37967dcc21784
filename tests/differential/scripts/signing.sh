# SPDX-License-Identifier: GPL-2.0-or-later
#
# Keys and signatures.

settings=/etc/dkms/framework.conf.d/z.conf

scene 'keys that are there'
try dkms generate_mok
try dkms generate_mok --verbose
try dkms generate_mok -q
try dkms generate_mok extra args
try dkms generate_mok -k $K
try dkms generate_mok --all
try dkms generate_mok --force

scene 'keys that are not there'
rm /var/lib/dkms/mok.*
try dkms generate_mok
rm /var/lib/dkms/mok.*
module hello 1.0
try dkms add hello/1.0
mkdir /root/keys
printf 'mok_signing_key=/root/keys/$kernelver.key\nmok_certificate=/root/keys/c.der\n' >$settings
try dkms generate_mok

scene 'half of a pair'
rm /var/lib/dkms/mok.pub
try dkms generate_mok
rm /var/lib/dkms/mok.key
try dkms generate_mok

scene 'no openssl'
rm /var/lib/dkms/mok.*
module hello 1.0
mv /usr/bin/openssl /usr/bin/openssl.real
try dkms generate_mok
try dkms build hello/1.0 -k $K
printf '#!/bin/sh\necho bad out; echo bad err >&2; exit 3\n' >/usr/bin/openssl
chmod 755 /usr/bin/openssl
try dkms generate_mok
try dkms build hello/1.0 -k $K --force
mv /usr/bin/openssl.real /usr/bin/openssl

scene 'keys that cannot be made where they should be'
rm /var/lib/dkms/mok.*
module hello 1.0
printf 'mok_signing_key=/root/keys/$kernelver.key\nmok_certificate=/root/keys/c.der\n' >$settings
try dkms build hello/1.0 -k $K

scene 'keys in hardware'
module hello 1.0
printf 'mok_signing_key="pkcs11:foo"\nmok_certificate=/var/lib/dkms/mok.pub\n' >$settings
try dkms build hello/1.0 -k $K
try dkms generate_mok

scene 'a tool that is not there'
module hello 1.0
printf 'sign_file=/nonexistent/sign\n' >$settings
try dkms build hello/1.0 -k $K

scene 'a tool of our own'
module hello 1.0
printf 'sign_file="/root/sign"\n' >$settings
script /root/sign 'printf "%s\n" "$#" "${@:1}" >/root/arguments'
sed -i '1s/sh/bash/' /root/sign
try dkms build hello/1.0 -k $K
script /root/sign 'echo fail out; echo fail err >&2; exit 1'
try dkms build hello/1.0 -k $K --force
script /root/sign 'exit 1'
try dkms build hello/1.0 -k $K --force
