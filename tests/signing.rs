// SPDX-License-Identifier: GPL-2.0-or-later

//! Who signs, and with what.

use crate::support::{Layer, Root};

/// A root without a key, with a package that is registered.
fn root(layer: Layer, options: &[&str]) -> Root {
    let mut root = Root::with(layer, options);
    root.quick("quick", "");
    root.sh("rm -f /var/lib/dkms/mok.*; dkms add quick/1");
    root
}

/// Builds quick/1 anew, with these variables and options.
#[track_caller]
fn build(root: &mut Root, variables: &str, options: &str, words: &str) {
    root.says(&format!("{variables} dkms build quick/1 --force {options}"), &words.replace("$BUILT", BUILT));
}

const BUILT: &str = "\nBuilding module(s)... done.";
const SIGNED: &str = "Signing module /var/lib/dkms/quick/1/build/quick.ko";

/// What the kernel would read from the module.
const SIGNER: &str = "modinfo -F signer /var/lib/dkms/quick/1/$K/$A/module/quick.ko";

const PAIR: &str = "\
Signing key: /var/lib/dkms/mok.key
Public certificate (MOK): /var/lib/dkms/mok.pub
";
const MISSING: &str = "Certificate or key are missing, generating self signed certificate for MOK...\n";

#[test]
fn a_chroot_does_not_sign() {
    let mut root = root(Layer::Ours, &["--chroot"]);
    let words = "Running in chroot, modules won't be signed\n$BUILT\n";
    build(&mut root, "", "", words);
    root.says("ls -A /var/lib/dkms", "quick\n");
    build(&mut root, "try_sign_modules=maybe", "", words);
    let mut pretending = Root::with(Layer::Ours, &[]);
    pretending.quick("quick", "");
    pretending.sh("dkms add quick/1");
    build(&mut pretending, "FAKECHROOT=true", "", words);

    // Unless the administrator wants it.
    build(&mut root, "try_sign_modules=true", "", &format!("$SIGNING\n{MISSING}$BUILT\n{SIGNED}\n"));
    root.says(SIGNER, "DKMS module signing key\n");
    root.write("/etc/dkms/framework.conf.d/sign.conf", "try_sign_modules=true");
    build(&mut root, "", "", &format!("$SIGNING\n$BUILT\n{SIGNED}\n"));
}

#[test]
fn who_does_not_want_signatures_gets_none() {
    // dkms 3.2.2 signs what it can.
    let mut root = root(Layer::Ours, &[]);
    let words = "Module signing is disabled by policy, modules won't be signed\n$BUILT\n";
    build(&mut root, "try_sign_modules=false", "", words);
    root.says(&format!("{SIGNER}; ls -A /var/lib/dkms"), "quick\n");
    root.write("/etc/dkms/framework.conf.d/sign.conf", "[ \"$kernelver\" = $(uname -r) ] && try_sign_modules=false");
    build(&mut root, "", "", words);
    root.sh("dkms build quick/1 -k $OLD");
    root.says("modinfo -F signer /var/lib/dkms/quick/1/$OLD/$A/module/quick.ko", "DKMS module signing key\n");
    // It says nothing about keys.
    root.says("rm /var/lib/dkms/mok.*; dkms generate_mok", &format!("{PAIR}{MISSING}"));
}

#[test]
fn a_key_is_made_once() {
    let mut root = root(Layer::under_test(), &[]);
    root.says("dkms generate_mok", &format!("{PAIR}{MISSING}"));
    root.says(
        "cd /var/lib/dkms && stat -c '%a %U %n' mok.* && head -n 1 mok.key",
        "600 root mok.key\n644 root mok.pub\n-----BEGIN PRIVATE KEY-----\n",
    );
    root.says(
        "openssl x509 -inform DER -in /var/lib/dkms/mok.pub -noout -subject -issuer -ext basicConstraints,extendedKeyUsage \
         -nameopt sep_multiline",
        "\
subject=
    CN=DKMS module signing key
issuer=
    CN=DKMS module signing key
X509v3 Basic Constraints: critical
    CA:TRUE
X509v3 Extended Key Usage: 
    Code Signing
",
    );
    root.says(
        "openssl x509 -inform DER -in /var/lib/dkms/mok.pub -noout -text | grep -oE 'Public-Key: .*|sha256W.*' | sort -u
         dates=$(openssl x509 -inform DER -in /var/lib/dkms/mok.pub -noout -dates | cut -d= -f2)
         echo $((($(date +%s -d \"$(tail -n 1 <<<$dates)\") - $(date +%s -d \"$(head -n 1 <<<$dates)\")) / 86400)) days",
        "Public-Key: (2048 bit)\nsha256WithRSAEncryption\n36500 days\n",
    );
    // They belong together.
    root.sh("cmp <(openssl pkey -in /var/lib/dkms/mok.key -pubout) \
                 <(openssl x509 -inform DER -in /var/lib/dkms/mok.pub -noout -pubkey)");

    // It is used, by whatever comes, and never made anew.
    let files = "cd /var/lib/dkms && md5sum mok.* && stat -c '%i %Y' mok.*";
    let before = root.sh(files);
    root.says("dkms generate_mok", PAIR);
    build(&mut root, "", "", &format!("$SIGNING\n$BUILT\n{SIGNED}\n"));
    root.sh(
        "dkms install quick/1 --force && dkms remove quick/1 --all && dkms install quick/1 -k $OLD && dkms autoinstall",
    );
    root.unchanged(files, &before);
}

/// The key of a stick that is not there now.
#[test]
fn links_that_lead_nowhere_are_not_replaced() {
    let mut root = root(Layer::Ours, &[]);
    for names in ["mok.key mok.pub", "mok.key"] {
        root.sh(&format!(
            "rm -f /var/lib/dkms/mok.*; for name in {names}; do ln -s /media/stick/$name /var/lib/dkms/$name; done"
        ));
        let said = root.sh("dkms build quick/1 -k $K --force");
        assert!(said.contains("not found and can't be generated, modules won't be signed"), "{said}");
        root.sh(&format!("cd /var/lib/dkms; for name in {names}; do [ -L $name ] || exit 1; done; [ $(ls -d mok.* | wc -l) = $(echo {names} | wc -w) ]"));
    }
}

#[test]
fn a_key_that_is_a_pipe_is_not_waited_for() {
    let mut root = root(Layer::Ours, &[]);
    for (pipe, file) in [("mok.key", "mok.pub"), ("mok.pub", "mok.key")] {
        root.sh(&format!("cd /var/lib/dkms; rm -f mok.*; mkfifo {pipe}; echo it >{file}"));
        let words = format!("$SIGNING\n/var/lib/dkms/{pipe} is not a regular file, modules won't be signed\n$BUILT\n");
        build(&mut root, "", "", &words);
    }
}

#[test]
fn where_no_key_can_be_had_nothing_is_signed() {
    let mut root = root(Layer::under_test(), &[]);
    root.sh("mv /usr/bin/openssl /root");
    let words = format!("{MISSING}openssl not found, can't generate key and certificate.\n");
    root.fails("dkms generate_mok", 1, &format!("{PAIR}{words}"));
    build(&mut root, "", "", &format!("$SIGNING\n{words}$BUILT\n"));
    root.says(&format!("{SIGNER}; ls -A /var/lib/dkms; mv /root/openssl /usr/bin"), "quick\n");

    let elsewhere = "mok_signing_key=/root/k mok_certificate=/nowhere/c";
    let code = root.run(&format!("{elsewhere} dkms generate_mok")).code;
    assert_eq!(code, 1);
    // A key in a token cannot be made by us.
    root.fails(
        "mok_signing_key='pkcs11:token=x' mok_certificate=/root/c dkms generate_mok",
        1,
        "\
Signing key: pkcs11:token=x
Public certificate (MOK): /root/c
Certificate file /root/c not found and can't be generated, modules won't be signed
",
    );
    root.says(
        "touch /root/c; mok_signing_key='pkcs11:token=x' mok_certificate=/root/c dkms generate_mok",
        "Signing key: pkcs11:token=x\nPublic certificate (MOK): /root/c\n",
    );
    root.says("ls -A /var/lib/dkms", "quick\n");
}

#[test]
fn the_administrators_key_and_program_are_used() {
    let mut root = root(Layer::under_test(), &[]);
    // Where they are may depend on the kernel.
    root.write(
        "/etc/dkms/framework.conf.d/sign.conf",
        "mok_signing_key='/root/$kernelver.key'\nmok_certificate=\"/root/$kernelver.pub\"",
    );
    let pair = "Signing key: /root/$K.key\nPublic certificate (MOK): /root/$K.pub\n";
    root.says("dkms generate_mok", &format!("{pair}{MISSING}"));
    root.says("cd /root && stat -c '%a %n' *.key *.pub; ls -A /var/lib/dkms", "600 $K.key\n644 $K.pub\nquick\n");
    let tool = "Sign command: /usr/lib/linux-kbuild-$SERIES/scripts/sign-file\n";
    build(&mut root, "", "", &format!("{tool}{pair}$BUILT\n{SIGNED}\n"));
    root.says(
        "cmp <(modinfo -F sig_key /var/lib/dkms/quick/1/$K/$A/module/quick.ko | tr -d :) \
             <(openssl x509 -inform DER -in /root/$K.pub -noout -serial | cut -d= -f2)",
        "",
    );

    // It is told which hash the kernel wants, and what it says is told.
    root.write("/root/sign", "#!/bin/sh\necho \"$1 $2 $3 $(basename $4)\"\n[ -e /root/fine ]");
    root.sh("chmod 755 /root/sign; echo 'sign_file=/root/sign' >>/etc/dkms/framework.conf.d/sign.conf");
    let tool = "Sign command: /root/sign\n";
    let hash = root.sh("sed -n 's/^CONFIG_MODULE_SIG_HASH=\"\\(.*\\)\"/\\1/p' /boot/config-$K");
    let failed = format!(
        "Warning: Failed to sign module '/var/lib/dkms/quick/1/build/quick.ko'!\n{} /root/$K.key /root/$K.pub quick.ko\n",
        hash.trim_end()
    );
    build(&mut root, "", "", &format!("{tool}{pair}$BUILT\n{SIGNED}\n{failed}"));
    root.says("dkms status", "quick/1, $K, $A: built\n");
    root.sh("touch /root/fine");
    build(&mut root, "", "", &format!("{tool}{pair}$BUILT\n{SIGNED}\n"));
    root.sh("chmod 644 /root/sign");
    build(&mut root, "", "", &format!("{tool}Binary /root/sign not found, modules won't be signed\n$BUILT\n"));
    root.sh("rm /etc/dkms/framework.conf.d/sign.conf");
    build(
        &mut root,
        "sign_file=/nowhere",
        "",
        "Sign command: /nowhere\nBinary /nowhere not found, modules won't be signed\n$BUILT\n",
    );
}

#[test]
fn a_kernel_that_knows_no_signatures_gets_none() {
    let mut root = root(Layer::under_test(), &[]);
    build(&mut root, "", "--config /nowhere", "Kernel config /nowhere not found, modules won't be signed\n$BUILT\n");
    root.write("/root/config", "CONFIG_MODULES=y\n# CONFIG_MODULE_SIG_HASH=x");
    let words = "The kernel is built without module signing facility, modules won't be signed\n$BUILT\n";
    build(&mut root, "", "--config /root/config", words);
    build(&mut root, "", "--config=/root/config", words);
    root.says("ls -A /var/lib/dkms", "quick\n");
}

#[test]
fn on_ubuntu_the_pair_of_the_shim_is_used() {
    let mut root = root(Layer::under_test(), &[]);
    root.sh("rm /etc/os-release && printf 'ID=linuxmint\\nID_LIKE=\"ubuntu debian\"\\n' >/etc/os-release");
    let no_policy = "Binary update-secureboot-policy not found, modules won't be signed\n";
    root.fails("dkms generate_mok", 1, no_policy);
    // It has no place of its own for sign-file.
    let tool = "Sign command: /usr/src/linux-headers-$K/scripts/sign-file\n";
    build(&mut root, "", "", &format!("{tool}{no_policy}$BUILT\n"));

    root.write(
        "/usr/sbin/update-secureboot-policy",
        "#!/bin/sh\necho $SHIM_NOTRIGGER $* $(ls) >>/srv/policy\n[ $1 = --enroll-key ] || exec openssl req -new -x509 -nodes \
         -newkey rsa:2048 -outform DER -keyout MOK.priv -out MOK.der -subj /CN=shim",
    );
    root.sh("chmod 755 /usr/sbin/update-secureboot-policy; mkdir -p /var/lib/shim-signed/mok");
    let pair = "\
Signing key: /var/lib/shim-signed/mok/MOK.priv
Public certificate (MOK): /var/lib/shim-signed/mok/MOK.der
";
    let generating = "Certificate or key are missing, generating them using update-secureboot-policy...\n";
    root.says(
        "cd /var/lib/shim-signed/mok; echo stale >MOK.der; dkms generate_mok 2>&1",
        &format!("{generating}{pair}"),
    );
    root.says("cat /srv/policy", "y --new-key\n--enroll-key MOK.der MOK.priv\n");
    root.says("dkms generate_mok; wc -l </srv/policy; ls -A /var/lib/dkms", &format!("{pair}2\nquick\n"));
    build(&mut root, "", "", &format!("{tool}{pair}$BUILT\n{SIGNED}\n"));
    root.says(SIGNER, "shim\n");
    // Its own program is preferred.
    root.write("/usr/bin/kmodsign", "#!/bin/sh\nexec /lib/modules/$K/build/scripts/sign-file \"$@\"");
    root.sh("chmod 755 /usr/bin/kmodsign");
    build(&mut root, "", "", &format!("Sign command: /usr/bin/kmodsign\n{pair}$BUILT\n{SIGNED}\n"));
    // The administrator's key has nothing to do with the shim's certificate.
    root.says(
        "mok_signing_key=/root/k dkms generate_mok; wc -l </srv/policy",
        &format!("Signing key: /root/k\nPublic certificate (MOK): /var/lib/dkms/mok.pub\n{MISSING}2\n"),
    );
}

#[test]
fn the_program_that_signs_may_come_with_the_headers() {
    let mut root = root(Layer::under_test(), &[]);
    let headers = "/lib/modules/$K/build";
    root.sh("mv /usr/lib/linux-kbuild-$(uname -r | cut -d. -f1,2)/scripts/sign-file /srv");
    let tool = format!("Sign command: {headers}/scripts/sign-file\n");
    build(
        &mut root,
        "",
        "",
        &format!("{tool}Binary {headers}/scripts/sign-file not found, modules won't be signed\n$BUILT\n"),
    );
    root.sh(&format!(
        "cp -rL {headers}/include /srv && rm {headers} && mkdir -p {headers}/scripts && mv /srv/include {headers} && mv /srv/sign-file {headers}/scripts"
    ));
    build(&mut root, "", "", &format!("{tool}{PAIR}{MISSING}$BUILT\n{SIGNED}\n"));
    root.says(SIGNER, "DKMS module signing key\n");
}

/// A build can read what everybody can.
#[test]
fn a_key_that_was_opened_is_closed_before_a_build() {
    let mut root = Root::with(Layer::Ours, &[]);
    root.sh("dkms generate_mok; chmod 644 /var/lib/dkms/mok.key");
    root.quick("quick", "");
    root.sh("sed -i 's|^MAKE=.*|MAKE=\"cat /var/lib/dkms/mok.key\"|' /usr/src/quick-1/dkms.conf");
    root.fails("dkms build quick/1 -k $K >/dev/null 2>&1", 10, "");
    root.says(
        "stat -c %a /var/lib/dkms/mok.key; grep -c PRIVATE /var/lib/dkms/quick/1/build/make.log; true",
        "600\n0\n",
    );
}
