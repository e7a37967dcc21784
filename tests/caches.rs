// SPDX-License-Identifier: GPL-2.0-or-later

//! Nothing is compiled twice, nothing is built twice, and nothing that changed is missed.

use crate::support::Root;

/// A module whose text is made of what it finds, by the ways in which a compiler finds it.
const MARKED: &str = r#"
#include <linux/module.h>
#include <linux/mark.h>
#include <crypto/aside.h>
#include "own.h"
#if __has_include(<linux/maybe.h>)
#define MAYBE "there"
#else
#define MAYBE "absent"
#endif
#if __has_include("own-maybe.h")
#define OWN_MAYBE "there"
#else
#define OWN_MAYBE "absent"
#endif
const char mark[] = "mark " KERNELS " " ASIDE " " OWN " " FORCED " " CONFIG_MARK " " MAYBE " " OWN_MAYBE ";";
MODULE_LICENSE("GPL");
"#;

const COMMON: &str = "/usr/src/linux-headers-${K%-amd64}-common";

/// A root whose newest kernel has headers that a test may change, and the module `marked`.
fn marked() -> Root {
    let mut root = Root::cold();
    root.sh(&format!(
        "cd {COMMON} && echo '#define KERNELS \"one\"' >include/linux/mark.h
         echo '#define ASIDE \"one\"' >include/crypto/aside.h
         echo '#define FORCED \"one\"' >>include/linux/kconfig.h
         echo '#define CONFIG_MARK \"one\"' >>/usr/src/linux-headers-$K/include/generated/autoconf.h"
    ));
    root.write(
        "/usr/src/marked-1/dkms.conf",
        "PACKAGE_NAME=marked\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME=marked\nDEST_MODULE_LOCATION=/updates",
    );
    root.write("/usr/src/marked-1/Makefile", "obj-m := marked.o");
    root.write("/usr/src/marked-1/marked.c", MARKED);
    root.write("/usr/src/marked-1/own.h", "#define OWN \"one\"");
    root.sh("dkms generate_mok && dkms add marked/1");
    root
}

/// How often ccache answered for a module and how often it did not, since it was asked last.
fn counts(root: &mut Root, module: &str) -> (u32, u32) {
    let said = root.sh(&format!(
        "for dir in /var/cache/dkms/ccache/{module}/*/; do export CCACHE_DIR=$dir
         setpriv --reuid _dkms --clear-groups ccache --print-stats; setpriv --reuid _dkms --clear-groups ccache -z >/dev/null; done"
    ));
    let count = |name: &str| {
        let values = said.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
        values.sum()
    };
    (count("direct_cache_hit\t") + count("preprocessed_cache_hit\t"), count("cache_miss\t"))
}

#[test]
fn an_assembler_of_the_makefiles_own_is_nobodys_object() {
    let mut root = marked();
    root.write("/usr/src/marked-1/Makefile", "obj-m := marked.o\nexport PATH := $(src)/bin:$(PATH)");
    root.write("/usr/src/marked-1/bin/as", "#!/bin/sh\nexec /usr/bin/as --defsym made_by=1 \"$@\"");
    root.sh("echo result_store=no >/etc/dkms/framework.conf.d/off.conf; dkms build marked/1 -k $K");
    assert_eq!(counts(&mut root, "marked"), (0, 1));
    root.sh("chmod 755 /usr/src/marked-1/bin/as");
    let made_by = "nm /var/lib/dkms/marked/1/$K/$A/module/marked.ko | sed -n 's/ a made_by//p' | tail -c 2";
    for by in ["1", "2"] {
        root.sh(&format!(
            "sed -i 's/made_by=[0-9]/made_by={by}/' /usr/src/marked-1/bin/as; dkms build marked/1 -k $K --force"
        ));
        root.says(made_by, &format!("{by}\n"));
    }
    assert_eq!(counts(&mut root, "marked"), (0, 0));
}

/// As that of zfs does, which leaves modules of its own in the source.
#[test]
fn what_a_configure_script_tried_keeps_nothing_from_being_found() {
    let mut root = marked();
    root.write(
        "/usr/src/marked-1/configure",
        "#!/bin/sh
         : '
         #include \"conftest.h\"'
         : >conftest.$(date +%N) && mkdir tries && echo 'obj-m := try.o' >tries/Makefile && printf '#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");\n' >tries/try.c
         make -C /lib/modules/$1/build M=$PWD/tries && echo '| #inc''lude \"/opt/tried.h\"' >config.log && rm conftest.*",
    );
    root.sh("chmod 755 /usr/src/marked-1/configure; echo 'PRE_BUILD=\"configure $kernelver\"' >>/usr/src/marked-1/dkms.conf");
    root.sh("echo result_store=no >/etc/dkms/framework.conf.d/off.conf; dkms build marked/1 -k $K");
    let (hits, misses) = counts(&mut root, "marked");
    assert_eq!((hits, misses), (0, 2));
    root.sh("dkms unbuild marked/1 -k $K; dkms build marked/1 -k $K");
    assert_eq!(counts(&mut root, "marked"), (2, 0));
}

/// As packages of Debian do: what its Makefile finds out, it finds out by a make with an empty environment.
#[test]
fn what_compiles_in_an_empty_environment_does() {
    let mut root = marked();
    root.write(
        "/usr/src/marked-1/Makefile",
        "obj-m := marked.o\nCOMPILES := $(shell cd $(src) && env -i PATH=\"$$PATH\" $(CC) -c probe.c -o /tmp/probe.o 2>/tmp/said; \
         echo $$?; cat /tmp/said)\n$(info compiles: $(COMPILES))",
    );
    root.write("/usr/src/marked-1/probe.c", "int probe;");
    root.sh("dkms build marked/1 -k $K");
    root.says("grep '^compiles: ' /var/lib/dkms/marked/1/$K/$A/log/make.log | sort -u", "compiles: 0\n");
    // By the cache, too.
    let (hits, misses) = counts(&mut root, "marked");
    root.sh("echo result_store=no >/etc/dkms/framework.conf.d/off.conf; dkms unbuild marked/1 -k $K; dkms build marked/1 -k $K");
    root.says("grep '^compiles: ' /var/lib/dkms/marked/1/$K/$A/log/make.log | sort -u", "compiles: 0\n");
    let again = counts(&mut root, "marked");
    assert!(misses > 0 && again.0 > hits && again.1 <= 1, "{hits} and {misses}, then {again:?}");
}

#[test]
fn whatever_a_compiler_can_find_is_seen_when_it_changes() {
    let mut root = marked();
    let mark = "grep -ao 'mark [^;]*' /var/lib/dkms/marked/1/$K/$A/module/marked.ko";
    let mut built = |change: &str, expected: &str| {
        root.sh(change);
        root.sh("dkms build marked/1 --force");
        root.says(mark, &format!("mark {expected}\n"));
        root.sh("dkms unbuild marked/1 && dkms build marked/1");
        root.says(mark, &format!("mark {expected}\n"));
    };
    built("true", "one one one one one absent absent");
    built("echo '#define OWN \"two\"' >/usr/src/marked-1/own.h", "one one two one one absent absent");
    built("touch /usr/src/marked-1/own-maybe.h", "one one two one one absent there");
    built(
        &format!("echo '#define KERNELS \"two\"' >{COMMON}/include/linux/mark.h"),
        "two one two one one absent there",
    );
    built(
        &format!("echo '#define ASIDE \"two\"' >{COMMON}/include/crypto/aside.h"),
        "two two two one one absent there",
    );
    built(
        &format!("sed -i 's/FORCED \"one\"/FORCED \"two\"/' {COMMON}/include/linux/kconfig.h"),
        "two two two two one absent there",
    );
    built(
        "sed -i 's/MARK \"one\"/MARK \"two\"/' /usr/src/linux-headers-$K/include/generated/autoconf.h",
        "two two two two two absent there",
    );
    built(&format!("touch {COMMON}/include/linux/maybe.h"), "two two two two two there there");
    // One that is found before it.
    let before = format!("{COMMON}/arch/x86/include/linux");
    built(
        &format!("mkdir -p {before} && echo '#define KERNELS \"first\"' >{before}/mark.h"),
        "first two two two two there there",
    );
}

#[test]
fn an_assembler_a_blob_and_a_compiler_that_change_are_seen() {
    let mut root = Root::cold();
    root.source("hello-0.1");
    root.sh("echo 'asm(\".section .rodata\\n.incbin \\\"blob\\\"\");' >>/usr/src/hello-0.1/hello.c");
    root.sh("sed -i '/^obj-m/a ccflags-y += -Wa,-I$(M)' /usr/src/hello-0.1/Makefile && echo blob: one >/usr/src/hello-0.1/blob");
    root.sh("dkms generate_mok && dkms add hello/0.1");
    let by = "grep -ao -e 'blob: [a-z]*' -e 'by [a-z]* as' -e 'by [a-z]* gcc' /var/lib/dkms/hello/0.1/$K/$A/module/hello.ko | sort -u";
    let mut built = |change: &str, expected: &str| {
        root.sh(change);
        root.sh("dkms remove hello/0.1 --all && dkms build hello/0.1");
        root.says(by, expected);
    };
    built("true", "blob: one\n");
    built("echo blob: two >/usr/src/hello-0.1/blob", "blob: two\n");
    built("sed -i '/incbin/d' /usr/src/hello-0.1/hello.c", "");
    // Ends each of its sources with a line of its own.
    built(
        "cat >/usr/local/bin/as <<'EOT' && chmod 755 /usr/local/bin/as
#!/bin/bash
{ cat \"${!#}\"; echo '.ident \"by other as\"'; } >/tmp/as.s
exec /usr/bin/as \"${@:1:$#-1}\" /tmp/as.s
EOT",
        "by other as\n",
    );
    built("rm /usr/local/bin/as", "");
    built(
        "gcc=gcc-$(gcc -dumpversion) && cat >/usr/local/bin/$gcc <<EOT && chmod 755 /usr/local/bin/$gcc
#!/bin/sh
case \\$* in *hello.c*) set -- -include /srv/gcc.h \"\\$@\" ;; esac
exec /usr/bin/$gcc \"\\$@\"
EOT
         echo 'asm(\".ident \\\"by other gcc\\\"\");' >/srv/gcc.h",
        "by other gcc\n",
    );
}

/// A source beside the headers, what the assembler includes, headers of nobody's package, what a recipe looks for, and other
/// modules' symbols: each decides, and few are told of by a compiler.
#[test]
fn what_no_compiler_tells_of_is_seen_all_the_same() {
    let mut root = marked();
    for (name, source, makefile, before, change) in [
        (
            "shadow",
            "#include \"impl.c\"\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I$(src)/a -I$(src)/b",
            "mkdir a b; echo '#define I \"one\"' >b/impl.c",
            "echo '#define I \"two\"' >a/impl.c",
        ),
        (
            "assembler",
            "asm(\".include \\\"own.inc\\\"\");",
            "ccflags-y += -I$(src)",
            "printf '.section .rodata\\n.ascii \"mark one;\"\\n' >own.inc",
            "sed -i s/one/two/ own.inc",
        ),
        (
            "nobodys",
            "#include <nobodys.h>\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I/usr/local/include",
            "echo '#define I \"one\"' >/usr/local/include/nobodys.h",
            "sed -i s/one/two/ /usr/local/include/nobodys.h",
        ),
        (
            "neighbours",
            "#include <neighbour.h>\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I/var/lib/dkms/marked/1/source",
            "echo '#define I \"one\"' >/usr/src/marked-1/neighbour.h",
            "sed -i s/one/two/ /usr/src/marked-1/neighbour.h",
        ),
        (
            "asked-for",
            "#if __has_include(<asked-for.h>)\n#define I \"two\"\n#else\n#define I \"one\"\n#endif\n\
             const char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I/usr/local/include",
            "true",
            "touch /usr/local/include/asked-for.h",
        ),
        (
            "included",
            "const char mark[] = \"mark \" I \";\";",
            "include /etc/included.mk\nccflags-y += '-DI=\"$(VALUE)\"'",
            "echo VALUE=one >/etc/included.mk",
            "sed -i s/one/two/ /etc/included.mk",
        ),
        (
            "another-source",
            "#include <another.h>\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I/lib/modules/$(KERNELRELEASE)/source/more -I$(src)/own",
            "mkdir -p own /opt/linux/more; ln -sfn /opt/linux /lib/modules/$K/source; echo '#define I \"one\"' >own/another.h",
            "echo '#define I \"two\"' >/opt/linux/more/another.h",
        ),
        (
            "beside-kbuild",
            "#include <beside.h>\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I$(firstword $(wildcard /usr/lib/linux-kbuild-*))/include -I$(src)/own",
            "mkdir -p own $(ls -d /usr/lib/linux-kbuild-* | head -n 1)/include; echo '#define I \"one\"' >own/beside.h",
            "echo '#define I \"two\"' >$(ls -d /usr/lib/linux-kbuild-* | head -n 1)/include/beside.h",
        ),
        (
            "asked-by-macro",
            "#define PLACE \"/usr/src/asked/it.h\"\n#if __has_include(PLACE)\n#define I \"two\"\n#else\n#define I \"one\"\n\
             #endif\nconst char mark[] = \"mark \" I \";\";",
            "",
            "mkdir /usr/src/asked",
            "touch /usr/src/asked/it.h",
        ),
        (
            "followed",
            "const char mark[] = \"mark \" I \";\";",
            "include /usr/src/followed/a.mk\nccflags-y += '-DI=\"$(VALUE)\"'",
            "mkdir /usr/src/followed; echo include /usr/share/followed.mk >/usr/src/followed/a.mk; \
             echo VALUE=one >/usr/share/followed.mk",
            "sed -i s/one/two/ /usr/share/followed.mk",
        ),
        (
            "called-otherwise",
            "const char mark[] = \"mark \" I \";\";",
            "include $(src)/flags.inc\nccflags-y += '-DI=\"$(VALUE)\"'",
            "echo include /usr/share/called.mk >flags.inc; echo VALUE=one >/usr/share/called.mk",
            "sed -i s/one/two/ /usr/share/called.mk",
        ),
        (
            "empty",
            "const char mark[] = \"mark \" I \";\";",
            "ccflags-y += '-DI=\"$(if $(wildcard $(src)/feature),two,one)\"'",
            "true",
            "mkdir feature",
        ),
        (
            "copied",
            "#include \"copy.h\"\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I$(obj)\n$(obj)/copied.o: $(obj)/copy.h\n$(obj)/copy.h:\n\tcp /opt/copied.h $@",
            "echo '#define I \"one\"' >/opt/copied.h",
            "sed -i s/one/two/ /opt/copied.h",
        ),
        (
            "packaged",
            "#include \"copy.h\"\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I$(obj)\n$(obj)/packaged.o: $(obj)/copy.h\n$(obj)/copy.h:\n\tcp /usr/include/packaged.h $@",
            "echo '#define I \"one\"' >/usr/include/packaged.h",
            "sed -i s/one/two/ /usr/include/packaged.h",
        ),
        (
            "told",
            "const char mark[] = \"mark \" I \";\";",
            "include $(MORE)\nccflags-y += '-DI=\"$(VALUE)\"'",
            "echo 'MAKE=\"make -C $kernel_source_dir M=$dkms_tree/told/1/build MORE=/opt/told\"' >/etc/dkms/told.conf; \
             echo VALUE=one >/opt/told",
            "sed -i s/one/two/ /opt/told",
        ),
        (
            "anywhere",
            "const char mark[] = \"mark \" I \";\";",
            "-include /data/x.mk\nccflags-y += '-DI=\"$(or $(VALUE),one)\"'",
            "true",
            "mkdir /data; echo VALUE=two >/data/x.mk",
        ),
        (
            "in-a-cache",
            "const char mark[] = \"mark \" I \";\";",
            "include /var/cache/x.mk\nccflags-y += '-DI=\"$(VALUE)\"'",
            "echo VALUE=one >/var/cache/x.mk",
            "sed -i s/one/two/ /var/cache/x.mk",
        ),
        (
            "of-a-neighbour",
            "const char mark[] = \"mark \" I \";\";",
            "include /var/lib/dkms/marked/1/source/x.mk\nccflags-y += '-DI=\"$(VALUE)\"'",
            "echo VALUE=one >/usr/src/marked-1/x.mk",
            "sed -i s/one/two/ /usr/src/marked-1/x.mk",
        ),
        (
            "for-the-kernel",
            "const char mark[] = \"mark \" I \";\";",
            "ccflags-y += '-DI=\"$(shell cat /boot/x-$(KERNELRELEASE))\"'",
            "echo one >/boot/x-$K",
            "echo two >/boot/x-$K",
        ),
        (
            "nobodys-program",
            "const char mark[] = \"mark \" I \";\";",
            "ccflags-y += '-DI=\"$(shell nobodys-program)\"'",
            "printf '#!/bin/sh\\necho one\\n' >/usr/bin/nobodys-program; chmod 755 /usr/bin/nobodys-program",
            "printf '#!/bin/sh\\necho  two\\n' >/usr/bin/nobodys-program",
        ),
        (
            "asked-by-another-name",
            "#define HAS __has_include\n#if HAS(\"/data/config.h\")\n#define I \"two\"\n#else\n#define I \"one\"\n#endif\n\
             const char mark[] = \"mark \" I \";\";",
            "",
            "true",
            "mkdir -p /data; touch /data/config.h",
        ),
        (
            "specified",
            "const char mark[] = \"mark \" I \";\";",
            "",
            "specs=$(dirname $(gcc -print-libgcc-file-name))/specs; gcc -dumpspecs | sed '/^\\*cpp:/{n;s/$/ -DI=\"one\"/}' >/srv/specs; \
             cp /srv/specs $specs",
            "specs=$(dirname $(gcc -print-libgcc-file-name))/specs; sed s/one/two/ /srv/specs >$specs",
        ),
        (
            "patched",
            "const char mark[] = \"mark \" I \";\";",
            "ccflags-y += '-DI=\"$(VALUE)\"'",
            "mkdir patches; printf '%s\\n' '--- a/Makefile' '+++ b/Makefile' '@@ -1 +1,2 @@' ' obj-m := patched.o' '+include /srv/patched' \
             >patches/it.patch; echo PATCH=it.patch >/etc/dkms/patched.conf; echo VALUE=one >/srv/patched",
            "sed -i s/one/two/ /srv/patched",
        ),
        (
            "made-before",
            "#include \"impl.h\"\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I$(src)/a -I$(src)/b\n$(shell [ ! -e /opt/first ] || { mkdir -p $(src)/a; echo '#define I \"two\"' \
             >$(src)/a/impl.h; })",
            "mkdir b; echo '#define I \"one\"' >b/impl.h",
            "touch /opt/first",
        ),
        (
            "asked-for-later",
            "#if __has_include(\"opt.gen\")\n#define I \"two\"\n#else\n#define I \"one\"\n#endif\nconst char mark[] = \"mark \" I \";\";",
            "$(obj)/asked-for-later.o: $(obj)/stamp\n$(obj)/stamp:\n\t[ ! -s $(src)/on ] || touch $(obj)/opt.gen; touch $@",
            "touch on",
            "echo on >on",
        ),
        (
            "made-later",
            "#include \"regs.tbl\"\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I$(src)/a -I$(src)/b\n$(obj)/made-later.o: $(obj)/stamp\n$(obj)/stamp:\n\
             \t[ ! -s $(src)/on ] || cp $(src)/on $(src)/a/regs.tbl; touch $@",
            "touch on; mkdir a b; touch a/other; echo '#define I \"one\"' >b/regs.tbl",
            "echo '#define I \"two\"' >on",
        ),
        (
            "made-beside",
            "#include \"../../below/first.h\"\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I$(src)/b/b\n$(obj)/made-beside.o: $(obj)/stamp\n$(obj)/stamp:\n\
             \t[ ! -s $(src)/on ] || cp $(src)/on $(src)/below/second.h; touch $@",
            "touch on; mkdir -p b/b below; echo '#include \"second.h\"' >below/first.h; echo '#define I \"one\"' >b/b/second.h",
            "echo '#define I \"two\"' >on",
        ),
        (
            "called-like-a-note",
            "#include \"regs.d\"\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I$(src)/a -I$(src)/b",
            "mkdir a b; touch a/other; echo '#define I \"one\"' >b/regs.d",
            "echo '#define I \"two\"' >a/regs.d",
        ),
        (
            "blob-of-a-made-source",
            "",
            "blob-of-a-made-source-y := main.o made.o\n$(obj)/made.S:\n\tsh /usr/share/make-a-source $(src)/blob >$@",
            "mv blob-of-a-made-source.c main.c; printf 'mark one;' >blob; printf '%s\\n' \"echo '.section .modinfo,\\\"a\\\"'\" \
             'echo \".incbin \\\"$1\\\"\"' 'echo .byte 0' >/usr/share/make-a-source",
            "printf 'mark two;' >blob",
        ),
        (
            "linked",
            "#include \"in/shared/it.h\"\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I$(src)",
            "mkdir in /usr/src/shared; ln -s /usr/src/shared in/shared; echo '#define I \"one\"' >/usr/src/shared/it.h",
            "sed -i s/one/two/ /usr/src/shared/it.h",
        ),
        (
            "blob-by-macro",
            "#define INC(x) asm(\".pushsection .modinfo,\\\"a\\\"\\n .incbin \\\"\" x \"\\\"\\n .byte 0\\n.popsection\")\n\
             INC(\"/lib/firmware/blob.bin\");",
            "",
            "mkdir -p /lib/firmware; printf 'mark one;' >/lib/firmware/blob.bin",
            "printf 'mark two;' >/lib/firmware/blob.bin",
        ),
        (
            "blob-in-pieces",
            "asm(\".pushsection .modinfo,\\\"a\\\"\\n .inc\" \"bin \\\"/usr/share/\" \"pieces.bin\\\"\\n .byte 0\\n.popsection\");",
            "",
            "printf 'mark one;' >/usr/share/pieces.bin",
            "printf 'mark two;' >/usr/share/pieces.bin",
        ),
        (
            "blob-by-header",
            "",
            "obj-m := blob-by-header.o\nblob-by-header-y := main.o fw.o",
            "mv blob-by-header.c main.c; printf '#include \"fw.h\"\\n.section .modinfo,\"a\"\\n.incbin FW\\n.byte 0\\n' >fw.S; \
             echo '#define FW \"/usr/share/fw.bin\"' >fw.h; printf 'mark one;' >/usr/share/fw.bin",
            "printf 'mark two;' >/usr/share/fw.bin",
        ),
        (
            "assembled",
            "asm(\".include \\\"/usr/share/inc.s\\\"\");",
            "",
            "printf '.pushsection .modinfo,\"a\"\\n.asciz \"mark one;\"\\n.popsection\\n' >/usr/share/inc.s",
            "sed -i s/one/two/ /usr/share/inc.s",
        ),
        (
            "by-variable",
            "const char mark[] = \"mark \" I \";\";",
            "DIR := /usr/share\ninclude $(DIR)/x.mk\nccflags-y += '-DI=\"$(VALUE)\"'",
            "echo VALUE=one >/usr/share/x.mk",
            "sed -i s/one/two/ /usr/share/x.mk",
        ),
        (
            "by-pattern",
            "const char mark[] = \"mark \" I \";\";",
            "VALUE := one\ninclude $(wildcard /etc/mk.d/*.mk)\nccflags-y += '-DI=\"$(VALUE)\"'",
            "mkdir /etc/mk.d",
            "echo VALUE=two >/etc/mk.d/x.mk",
        ),
        (
            "placed",
            "",
            "placed-y := main.o\nldflags-y += -T /usr/share/placed.lds",
            "mv placed.c main.c; echo 'SECTIONS { .mark 0 : { BYTE(109) BYTE(97) BYTE(114) BYTE(107) BYTE(32) BYTE(111) BYTE(110) BYTE(101) BYTE(59) \
             BYTE(0) } }' >/usr/share/placed.lds",
            "sed -i 's/BYTE(111) BYTE(110) BYTE(101)/BYTE(116) BYTE(119) BYTE(111)/' /usr/share/placed.lds",
        ),
        (
            "host-header",
            "#include \"made.h\"\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I$(obj)\n$(obj)/host-header.o: $(obj)/made.h\n$(obj)/made.h:\n\techo 'int main(void) { \
             puts(\"\\#define I \\\"\" HOST \"\\\"\"); }' | gcc -include stdio.h -include host.h -x c - -o $(obj)/gen && \
             $(obj)/gen >$@",
            "echo '#define HOST \"one\"' >/usr/include/host.h",
            "echo '#define HOST \"two\"' >/usr/include/host.h",
        ),
        (
            "host-reads",
            "#include \"made.h\"\nconst char mark[] = \"mark \" I \";\";",
            "hostprogs := gen\nccflags-y += -I$(obj)\n$(obj)/host-reads.o: $(obj)/made.h\n\
             $(obj)/made.h: $(obj)/gen\n\t$(obj)/gen >$@",
            "printf '#include <stdio.h>\\nint main(void) { int c; FILE *f = fopen(\"/etc/host-reads\", \"r\"); \
             while ((c = getc(f)) != EOF) putchar(c); return 0; }' >gen.c; echo '#define I \"one\"' >/etc/host-reads",
            "sed -i s/one/two/ /etc/host-reads",
        ),
        (
            "script",
            "#include \"made.h\"\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I$(obj)\n$(obj)/script.o: $(obj)/made.h\n$(obj)/made.h:\n\tsh $(src)/gen.sh >$@",
            "printf 'dir=/usr/share\\n. $dir/script.conf\\necho \"#define I \\\\\"$VALUE\\\\\"\"\\n' >gen.sh; \
             echo VALUE=one >/usr/share/script.conf",
            "sed -i s/one/two/ /usr/share/script.conf",
        ),
        (
            "recipe",
            "#include \"made.h\"\nconst char mark[] = \"mark \" I \";\";",
            "ccflags-y += -I$(obj)\n$(obj)/recipe.o: $(obj)/made.h\n$(obj)/made.h:\n\tif dpkg -s bbswitch-dkms >/dev/null 2>&1; \
             then echo '#define I \"two\"'; else echo '#define I \"one\"'; fi >$@",
            "true",
            "dpkg-deb -x /var/cache/apt/archives/bbswitch-dkms_*.deb /srv/bb; dpkg-deb -e /var/cache/apt/archives/bbswitch-dkms_*.deb \
             /srv/bb/DEBIAN; rm -f /srv/bb/DEBIAN/p*; dpkg-deb -b /srv/bb /srv >/dev/null; dpkg -i --force-depends /srv/bbswitch-dkms_*.deb",
        ),
    ] {
        root.write(
            &format!("/usr/src/{name}-1/dkms.conf"),
            &format!("PACKAGE_NAME={name}\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME={name}\nDEST_MODULE_LOCATION=/updates"),
        );
        root.write(&format!("/usr/src/{name}-1/Makefile"), &format!("obj-m := {name}.o\n{makefile}"));
        root.write(
            &format!("/usr/src/{name}-1/{name}.c"),
            &format!("#include <linux/module.h>\n{source}\nMODULE_LICENSE(\"GPL\");"),
        );
        let mark = format!("strings -a /var/lib/dkms/{name}/1/$K/$A/module/{name}.ko* | grep -o '^mark .*;'");
        root.sh(&format!("cd /usr/src/{name}-1 && {{ {before}; }} && dkms add {name}/1 && dkms build {name}/1 -k $K"));
        root.says(&mark, "mark one;\n");
        root.sh(&format!("cd /usr/src/{name}-1 && {change}"));
        root.sh(&format!("dkms unbuild {name}/1 -k $K && dkms build {name}/1 -k $K"));
        root.says(&mark, "mark two;\n");
    }
}

/// The assembler's word for it in other spellings, by the compile cache alone.
#[test]
fn a_blob_is_seen_however_it_is_spelled() {
    let mut root = marked();
    root.sh("echo result_store=no >/etc/dkms/framework.conf.d/off.conf");
    for (number, spelled) in [
        r#"".pushsection .modinfo,\"a\"\n.inc" "bin \"/opt/blob\"\n.byte 0\n.popsection""#,
        r#"".pushsection .modinfo,\"a\"\n.\x69ncbin \"/opt/blob\"\n.byte 0\n.popsection""#,
        r#"".pushsection .modinfo,\"a\"\n.INCBIN \"/opt/blob\"\n.byte 0\n.popsection""#,
        r#"".macro m a b\n.\\a\\b \"/opt/blob\"\n.endm\n.pushsection .modinfo,\"a\"\nm inc bin\n.byte 0\n.popsection""#,
    ]
    .iter()
    .enumerate()
    {
        let name = format!("spelled{number}");
        root.write(
            &format!("/usr/src/{name}-1/dkms.conf"),
            &format!("PACKAGE_NAME={name}\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME={name}\nDEST_MODULE_LOCATION=/updates"),
        );
        root.write(&format!("/usr/src/{name}-1/Makefile"), &format!("obj-m := {name}.o"));
        root.write(
            &format!("/usr/src/{name}-1/{name}.c"),
            &format!("#include <linux/module.h>\nasm({spelled});\nMODULE_LICENSE(\"GPL\");"),
        );
        for value in ["one", "two"] {
            root.sh(&format!("printf 'mark {value};' >/opt/blob; dkms build {name}/1 -k $K --force"));
            let mark = format!("strings -a /var/lib/dkms/{name}/1/$K/$A/module/{name}.ko* | grep -o '^mark .*;'");
            root.says(&mark, &format!("mark {value};\n"));
        }
    }
}

/// What a compiler looks for beside a file that it reads, by the compile cache alone.
#[test]
fn what_lies_beside_a_file_elsewhere_is_seen() {
    let mut root = marked();
    root.sh("echo result_store=no >/etc/dkms/framework.conf.d/off.conf; mkdir /opt/elsewhere");
    root.write(
        "/opt/elsewhere/it.c",
        "#if __has_include(\"other.h\")\n#define I \"two\"\n#else\n#define I \"one\"\n#endif\nconst char mark[] = \"mark \" I \";\";",
    );
    let own = "\n\t$(CC) $(c_flags) -c $< -o $@; touch $(obj)/.it.o.cmd";
    for (name, source, makefile) in [
        ("source", "", format!("source-y := main.o it.o\n$(obj)/it.o: /opt/elsewhere/it.c{own}")),
        ("forced", "", "forced-y := main.o\nCFLAGS_main.o := -include /opt/elsewhere/it.c".to_owned()),
        ("full", "#include \"/opt/elsewhere/it.c\"", "full-y := main.o".to_owned()),
        ("macro", "#define NAMED </opt/elsewhere/it.c>\n#include NAMED", "macro-y := main.o".to_owned()),
        ("climbs", "#include \"../../../../../../opt/elsewhere/it.c\"", "climbs-y := main.o".to_owned()),
        (
            "above",
            "#include <it.c>",
            "above-y := main.o\nccflags-y += -I$(src)/link/..\n$(shell ln -sfn /opt/elsewhere/below $(src)/link)"
                .to_owned(),
        ),
    ] {
        root.write(
            &format!("/usr/src/{name}-1/dkms.conf"),
            &format!("PACKAGE_NAME={name}\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME={name}\nDEST_MODULE_LOCATION=/updates"),
        );
        root.write(&format!("/usr/src/{name}-1/Makefile"), &format!("obj-m := {name}.o\n{makefile}"));
        root.write(
            &format!("/usr/src/{name}-1/main.c"),
            &format!("#include <linux/module.h>\n{source}\nMODULE_LICENSE(\"GPL\");"),
        );
        root.sh("rm -f /opt/elsewhere/other.h; mkdir -p /opt/elsewhere/below");
        for (change, value) in [("true", "one"), ("touch /opt/elsewhere/other.h", "two")] {
            root.sh(&format!("{change}; dkms build {name}/1 -k $K --force"));
            let mark = format!("strings -a /var/lib/dkms/{name}/1/$K/$A/module/{name}.ko* | grep -o '^mark .*;'");
            root.says(&mark, &format!("mark {value};\n"));
        }
    }
}

/// What is outside of a source and named by what others set, or by the directory that it is in.
#[test]
fn what_lies_in_directories_that_are_named_is_seen_when_it_changes() {
    let mut root = marked();
    root.sh("mkdir -p /opt/sdk/below /etc/sdk; echo '#define OUTSIDE 1' >/opt/sdk/below/outside.h");
    root.sh("echo 'ccflags-y += -DSET=1' >/etc/sdk/set.mk");
    root.write(
        "/usr/src/marked-1/Makefile",
        "obj-m := marked.o\ninclude $(WHERE)/set.mk\nccflags-y += -I$(obj)\n$(obj)/marked.o: $(obj)/below\n\
         $(obj)/below:\n\tcp -r /opt/sdk/. $(obj)/",
    );
    root.sh("cd /usr/src/marked-1 && sed -i '1i #include \"below/outside.h\"' marked.c \
         && printf '#define TEXT(x) #x\\n#define VALUE(x) TEXT(x)\\n' >>marked.c \
         && echo 'const char outside[] = \"outside \" VALUE(OUTSIDE) VALUE(SET) \";\";' >>marked.c \
         && echo 'MAKE=\"make -C $kernel_source_dir M=$dkms_tree/marked/1/build WHERE=/etc/sdk\"' >>dkms.conf");
    for (change, outside) in
        [("true", "11"), ("sed -i s/1/2/ /opt/sdk/below/outside.h", "21"), ("sed -i s/1/2/ /etc/sdk/set.mk", "22")]
    {
        root.sh(&format!("{change}; dkms build marked/1 -k $K"));
        let said = format!("outside {outside};\n");
        root.says("strings -a /var/lib/dkms/marked/1/$K/$A/module/marked.ko* | grep -o '^outside .*;'", &said);
        root.sh("dkms unbuild marked/1 -k $K");
    }
}

/// What a make asks the machine.
#[test]
fn a_module_that_asks_for_the_machines_name_is_the_same_on_all() {
    let mut root = marked();
    root.sh("echo 'const char host[] = \"host \" HOST \";\";' >>/usr/src/marked-1/marked.c");
    root.sh("echo 'ccflags-y += -DHOST=\\\"$(shell hostname)\\\"' >>/usr/src/marked-1/Makefile");
    root.sh("unshare --uts sh -c 'hostname one; dkms build marked/1 -k '$K");
    root.says("strings -a /var/lib/dkms/marked/1/$K/$A/module/marked.ko* | grep -o '^host .*;'", "host localhost;\n");
}

/// A header that changes while a build runs, and back: nothing of that build is kept.
#[test]
fn what_was_made_while_a_header_changed_is_not_kept() {
    for settings in ["", "result_store=no"] {
        let mut root = marked();
        root.sh(&format!("echo '{settings}' >/etc/dkms/framework.conf.d/store.conf"));
        root.sh("printf '$(obj)/marked.o: $(obj)/wait\\n$(obj)/wait:\\n\\ttouch /tmp/waits; sleep 3\\n' >>/usr/src/marked-1/Makefile");
        let header = format!("{COMMON}/include/linux/mark.h");
        let mark = "strings -a /var/lib/dkms/marked/1/$K/$A/module/marked.ko* | grep -o '^mark [a-z]*'";
        root.sh(&format!("dkms build marked/1 -k $K & sleep 1.5; sed -i s/one/two/ {header}; wait $!"));
        root.says(mark, "mark two\n");
        root.sh(&format!("sed -i s/two/one/ {header}; dkms unbuild marked/1 -k $K && dkms build marked/1 -k $K"));
        root.says(mark, "mark one\n");
    }
}

/// Symbols of what is no module of ours.
#[test]
fn symbols_of_others_are_looked_up_each_time() {
    let mut root = marked();
    root.write("/usr/src/ext/Module.symvers", "0x11111111\texported\text\tEXPORT_SYMBOL\t");
    root.write(
        "/usr/src/uses-1/dkms.conf",
        "PACKAGE_NAME=uses\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME=uses\nDEST_MODULE_LOCATION=/updates",
    );
    root.write("/usr/src/uses-1/Makefile", "obj-m := uses.o\nKBUILD_EXTRA_SYMBOLS := /usr/src/ext/Module.symvers");
    root.write(
        "/usr/src/uses-1/uses.c",
        "#include <linux/module.h>\nint exported(int a);\nint uses(void);\nint uses(void) { return exported(1); }\n\
         MODULE_LICENSE(\"GPL\");",
    );
    for crc in ["0x11111111", "0x22222222"] {
        root.sh(&format!("sed -i s/^0x1*/{crc}/ /usr/src/ext/Module.symvers; dkms build uses/1 -k $K"));
        root.says(
            "modprobe --dump-modversions /var/lib/dkms/uses/1/$K/$A/module/uses.ko* | sed -n 's/\\texported$//p'",
            &format!("{crc}\n"),
        );
        root.sh("dkms unbuild uses/1 -k $K");
    }
}

/// Symbols of a module that another one names by itself, without BUILD_DEPENDS.
#[test]
fn symbols_of_other_modules_count_where_they_are_named() {
    let mut root = marked();
    for name in ["exports", "uses"] {
        root.write(
            &format!("/usr/src/{name}-1/dkms.conf"),
            &format!("PACKAGE_NAME={name}\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME={name}\nDEST_MODULE_LOCATION=/updates"),
        );
    }
    root.write("/usr/src/exports-1/Makefile", "obj-m := exports.o");
    root.write(
        "/usr/src/exports-1/exports.c",
        "#include <linux/module.h>\nint exported(int a);\nint exported(int a) { return 1; }\nEXPORT_SYMBOL(exported);\n\
         MODULE_LICENSE(\"GPL\");",
    );
    root.write(
        "/usr/src/uses-1/Makefile",
        "obj-m := uses.o\nKBUILD_EXTRA_SYMBOLS := /var/lib/dkms/exports/1/$(KERNELRELEASE)/x86_64/module/Module.symvers",
    );
    root.write(
        "/usr/src/uses-1/uses.c",
        "#include <linux/module.h>\nint exported(int a);\nint uses(void);\nint uses(void) { return exported(1); }\n\
         MODULE_LICENSE(\"GPL\");",
    );
    root.sh("dkms build exports/1 -k $K && dkms build uses/1 -k $K");
    let crc = "modprobe --dump-modversions /var/lib/dkms/uses/1/$K/$A/module/uses.ko* | sed -n 's/\\texported$//p'";
    let before = root.sh(crc);
    root.sh("sed -i s/int.a/long\\ a/ /usr/src/exports-1/exports.c; dkms unbuild exports/1 -k $K; dkms build exports/1 -k $K");
    root.sh("dkms unbuild uses/1 -k $K; dkms build uses/1 -k $K");
    let after = root.sh(crc);
    assert!(before != after && !after.is_empty(), "{before} and {after}");
    root.says("cut -f1 /var/lib/dkms/exports/1/$K/$A/module/Module.symvers", &after);
    // The caller names them.
    root.sh("sed -i /SYMBOLS/d /usr/src/uses-1/Makefile");
    let mut build = |parameter: &str| {
        root.sh(&format!(
            "sed -i 's/exported([a-z]* a)/exported({parameter} a)/' /usr/src/exports-1/exports.c
             dkms unbuild exports/1 -k $K; dkms build exports/1 -k $K; dkms unbuild uses/1 -k $K
             KBUILD_EXTRA_SYMBOLS=/var/lib/dkms/exports/1/$K/$A/module/Module.symvers dkms build uses/1 -k $K"
        ));
        root.sh(crc)
    };
    assert_eq!([build("long"), build("int")], [after, before]);
}

/// One that PRE_BUILD makes for each kernel makes another set of headers for each.
#[test]
fn caches_that_builds_are_at_do_not_go() {
    let mut root = marked();
    root.sh("for n in 1 2 3 4; do cp -r /lib/modules/$OLD /lib/modules/${OLD%-*}-$n-amd64; done");
    root.sh("cd /usr/src/marked-1 && printf '#!/bin/sh\\ntouch have-$kernelver.h; sleep 2\\n' >pre && chmod 755 pre && echo PRE_BUILD=pre >>dkms.conf");
    let kernels = "$(cd /lib/modules && printf -- '-k %s ' ${OLD%-amd64}*)";
    root.sh(&format!("cd $(readlink -f /lib/modules/$OLD/source) && mkdir -p include/linux && cp -n /lib/modules/$K/source/include/linux/mark.h include/linux; cp /lib/modules/$K/source/include/crypto/aside.h include/crypto; echo '#define FORCED \"one\"' >>include/linux/kconfig.h; echo '#define CONFIG_MARK \"one\"' >>/lib/modules/$OLD/build/include/generated/autoconf.h; dkms build marked/1 -j 5 --force {kernels}"));
    root.says("dkms status marked | grep -c ': built'", "5\n");
    // Nor does it matter when they go while something is compiled.
    root.sh("sed -i '1i #include \"wait.h\"' /usr/src/marked-1/marked.c; echo 'ccflags-y += -I$(obj)\n' | sed 's/.n$//' >>/usr/src/marked-1/Makefile");
    root.sh("printf '$(obj)/marked.o: $(obj)/wait.h\\n$(obj)/wait.h:\\n\\tsleep 3; touch $@\\n' >>/usr/src/marked-1/Makefile");
    root.sh("dkms build marked/1 -k $K & sleep 2; rm -rf /var/cache/dkms; wait $!");
}

#[test]
fn a_respin_of_the_kernel_compiles_what_names_it_and_nothing_else() {
    let mut root = Root::cold();
    root.sh("dpkg-deb -x /var/cache/apt/archives/evdi-dkms_*.deb / && dkms add /usr/src/evdi-*");
    let build = |root: &mut Root, kernel: &str, more: &str| {
        root.sh(&format!("dkms build evdi/$(basename /usr/src/evdi-* | cut -d- -f2-) -k {kernel} {more}"));
        root.bytes(&format!("cat /var/lib/dkms/evdi/*/{kernel}/$A/module/evdi.ko"))
    };
    build(&mut root, "$OLD", "");
    let (_, cold) = counts(&mut root, "evdi");
    assert!(cold >= 15, "{cold} objects were compiled");
    let warm = build(&mut root, "$K", "");
    let (hits, misses) = counts(&mut root, "evdi");
    assert!(hits >= 15, "{hits} hits");
    if root.sh("cd /usr/src; diff -rq linux-headers-${OLD%-*}-common linux-headers-${K%-*}-common || true").is_empty() {
        assert_eq!(misses, 0, "but for the .mod.c, {hits} hits");
    }
    // And it is what would have been compiled.
    root.sh("echo compile_cache=no >/etc/dkms/framework.conf.d/off.conf");
    assert!(build(&mut root, "$K", "--force") == warm, "the module from the cache is another one");
    root.says("ls /usr/src | grep -c -x -e linux-headers-common -e linux-headers-flavour; true", "0\n");
}

/// How many questions a module's build had to ask a compiler by itself, and got a yes.
const ASKED_BY_HELLO: &str = "find /var/cache/dkms/ccache/hello/ -path '*/probes/*' -type f | wc -l";

#[test]
fn a_kernels_probes_are_answered_once_for_all_modules() {
    let mut root = marked();
    root.source("hello-0.1");
    root.sh("sed -i /CLEAN/d /usr/src/hello-0.1/dkms.conf; dkms build marked/1 && dkms build hello/0.1");
    // Of some thirty calls these are what is left to ccache.
    let (hits, misses) = counts(&mut root, "hello");
    assert!(hits + misses <= 4, "{hits} hits, {misses} misses");
    root.says(ASKED_BY_HELLO, "0\n");
    root.says("find /var/cache/dkms/probes -user _dkms; find /var/cache/dkms/probes -name '.new-*'", "");
    root.sh("[ $(ls /var/cache/dkms/probes/* | wc -l) -ge 20 ]");
    // One that is told to go by other programs is asked itself.
    root.sh("dkms unbuild hello/0.1 && rm -r /var/cache/dkms/results");
    root.sh("printf 'export COMPILER_PATH=/nonexistent\\n' >/etc/env; echo build_environment=/etc/env >/etc/dkms/framework.conf.d/env.conf; dkms build hello/0.1");
    assert_eq!(counts(&mut root, "hello"), (0, 0));
    root.says(ASKED_BY_HELLO, "0\n");
}

#[test]
fn probes_are_answered_for_a_second_module_where_cores_were_busy_with_the_first() {
    let mut root = marked();
    root.source("hello-0.1");
    // As people have it who compile by ccache themselves: it is nobody to ask.
    root.sh("ln -s $(command -v ccache) /usr/local/bin/gcc-$(gcc -dumpversion)");
    root.sh("sed -i /CLEAN/d /usr/src/hello-0.1/dkms.conf; dkms build marked/1 -j 1");
    root.says("ls /var/cache/dkms/probes 2>/dev/null | wc -l", "0\n");
    // What that one asked for itself is its own.
    let (hits, misses) = counts(&mut root, "marked");
    assert!(hits + misses <= 4, "{hits} hits, {misses} misses");
    root.sh("[ $(find /var/cache/dkms/ccache/marked/*/probes -type f -user _dkms | wc -l) -ge 20 ]");
    root.sh("dkms build hello/0.1 -j 1");
    root.says(ASKED_BY_HELLO, "0\n");
    root.says("ls /var/cache/dkms/probes | wc -l", "1\n");
    // Of some thirty calls these are what is left to ccache.
    let (hits, misses) = counts(&mut root, "hello");
    assert!(hits + misses <= 4, "{hits} hits, {misses} misses");
}

#[test]
fn answers_that_come_while_a_build_configures_are_answers_to_it() {
    let mut root = marked();
    root.source("hello-0.1");
    root.write(
        "/usr/src/hello-0.1/wait",
        "#!/bin/sh\nfor i in $(seq 600); do ls -d /var/cache/dkms/probes/*/ && exit; sleep 0.1; done",
    );
    root.sh("cd /usr/src/hello-0.1 && chmod 755 wait && sed -i /CLEAN/d dkms.conf && echo PRE_BUILD=wait >>dkms.conf");
    root.sh("dkms build hello/0.1 -j 2");
    root.says(ASKED_BY_HELLO, "0\n");
}

#[test]
fn what_compiles_nothing_is_left_to_the_compiler() {
    let mut root = marked();
    root.source("hello-0.1");
    root.write(
        "/usr/src/hello-0.1/try",
        "#!/bin/sh -e\nfor cc in $CC gcc /usr/lib/ccache/gcc; do\n\
         echo 'int main(void) { return 0; }' >main.c\n$cc main.c -o main\n./main\n\
         $cc -nostdinc -c main.c -o main.o\n$cc main.o -o main\n./main\n\
         $cc -c main.c -o main.o\n$cc -nostdinc -I/opt -c main.c -o main.o\n$cc -E main.c | grep -q main\n$cc --version >/dev/null\ndone\nrm main*",
    );
    root.sh("cd /usr/src/hello-0.1 && chmod 755 try && sed -i /CLEAN/d dkms.conf && printf 'PRE_BUILD=try\nMAKE=true\nBUILT_MODULE_LOCATION=/nowhere\n' >>dkms.conf");
    root.fails("dkms build hello/0.1 >/srv/said 2>&1", 7, "");
    root.says("grep -c 'pre_build script... done' /srv/said", "1\n");
    // Once for each of the three; the last two are the same. What looks for headers elsewhere is not for the cache, either.
    assert_eq!(counts(&mut root, "hello"), (1, 2));
}

#[test]
fn a_build_sees_no_cache_but_its_own_and_cannot_write_what_others_read() {
    let mut root = marked();
    root.sh("dkms build marked/1");
    root.source("hello-0.1");
    root.write(
        "/usr/src/hello-0.1/look",
        "#!/bin/sh\ncd /var/cache/dkms; ls; ls ccache; touch results/x probes/x ccache/x ccache/marked\nfor dir in probes/* ccache/hello/*; do touch $dir/x && echo mine; done; true",
    );
    root.sh(
        "chmod 755 /usr/src/hello-0.1/look; echo PRE_BUILD=look >>/usr/src/hello-0.1/dkms.conf; dkms build hello/0.1",
    );
    let log = root.sh("sed -n '/^# command/,/^# exit/p' /var/lib/dkms/hello/0.1/$K/$A/log/make.log | head -n 20");
    assert!(log.contains("\nccache\nprobes\nhello\n"), "{log}");
    assert!(log.contains("\nmine\n") && log.matches("cannot touch").count() == 5, "{log}");
}

/// What is told of a build, whether anything is built or not.
const BUILT: &str = "\
$SIGNING

Building module(s)... done.
Signing module /var/lib/dkms/hello/0.1/build/hello.ko
";

/// `hello`, built once, in a system that has no make any more.
fn kept() -> Root {
    let mut root = Root::cold();
    root.source("hello-0.1");
    root.sh("sed -i /CLEAN/d /usr/src/hello-0.1/dkms.conf; dkms generate_mok && dkms add hello/0.1");
    root.says("dkms build hello/0.1", BUILT);
    root
}

#[test]
fn what_was_built_is_not_built_again_and_says_the_same() {
    let mut root = kept();
    let result = "cd /var/lib/dkms/hello/0.1/$K && find . -type f -exec sha256sum {} + | sort";
    let before = root.sh(result);
    // Whoever ran now would be seen.
    root.sh("mv /usr/bin/make /usr/bin/made; printf '#!/bin/sh\\nexit 1\\n' >/usr/bin/make; chmod 755 /usr/bin/make; touch -r /usr/bin/made /usr/bin/make");
    root.fails("dkms unbuild hello/0.1 >/dev/null; dkms build hello/0.1 >/dev/null 2>&1", 10, "");
    root.sh("mv /usr/bin/made /usr/bin/make; printf 'exit 1\\n' >/usr/lib/dkms/sandbox/make");
    root.says("dkms build hello/0.1", BUILT);
    root.unchanged(result, &before);
    // How much a build may take makes no other module; by default that is the memory of the machine as it is now.
    root.sh("dkms unbuild hello/0.1; echo build_memory=7G >/etc/dkms/framework.conf.d/memory.conf");
    root.says("dkms build hello/0.1", BUILT);
    root.unchanged(result, &before);
    // Not with --force, nor for somebody who wants to see it.
    root.fails("dkms build hello/0.1 --force >/dev/null 2>&1", 10, "");
    root.fails("dkms unbuild hello/0.1 >/dev/null; dkms build hello/0.1 --verbose >/dev/null 2>&1", 10, "");
    root.says("dkms build hello/0.1", BUILT);
    // The package goes and comes again, in another place of the disk and at another time.
    root.sh("dkms remove hello/0.1 --all && mv /usr/src/hello-0.1 /srv && sleep 1 && cp -r /srv/hello-0.1 /usr/src");
    root.sh("dkms add hello/0.1 && dkms build hello/0.1");
    // So does the kernel.
    root.sh("dkms unbuild hello/0.1; cp -r /usr/src/linux-headers-$K /srv && rm -r /usr/src/linux-headers-$K && mv /srv/linux-headers-$K /usr/src");
    root.says("dkms build hello/0.1", BUILT);
    root.unchanged(result, &before);
    root.sh("dkms unbuild hello/0.1; echo result_store=no >/etc/dkms/framework.conf.d/off.conf");
    root.fails("dkms build hello/0.1 >/dev/null 2>&1", 10, "");
}

#[test]
fn what_was_kept_is_not_taken_when_anything_is_different() {
    let mut root = kept();
    root.sh("printf 'exit 1\\n' >/usr/lib/dkms/sandbox/make");
    let forget = "dkms unbuild hello/0.1 >/dev/null;";
    root.says(&format!("{forget} dkms build hello/0.1"), BUILT);
    for (change, back) in [
        ("echo >>/usr/src/hello-0.1/hello.c", "sed -i '$d' /usr/src/hello-0.1/hello.c"),
        ("chmod 755 /usr/src/hello-0.1/hello.c", "chmod 644 /usr/src/hello-0.1/hello.c"),
        ("echo 'STRIP=no' >/etc/dkms/hello.conf", "rm /etc/dkms/hello.conf"),
        ("export KCFLAGS=-O1", "unset KCFLAGS"),
        ("export DKMS_DIRECTIVE='STRIP=no'", "unset DKMS_DIRECTIVE"),
        ("sed -i 's/^Version: .*/&+changed/' /var/lib/dpkg/status", "sed -i 's/+changed$//' /var/lib/dpkg/status"),
        ("echo >>/usr/src/linux-headers-$K/Module.symvers", "sed -i '$d' /usr/src/linux-headers-$K/Module.symvers"),
        ("cp /usr/bin/as /usr/local/bin/as && printf x >>/usr/local/bin/as", "rm /usr/local/bin/as"),
        (
            "printf x >>/var/cache/dkms/results/*/files/module/hello.ko",
            "mv /usr/lib/dkms/sandbox/make /srv; dkms build hello/0.1; mv /srv/make /usr/lib/dkms/sandbox",
        ),
        // What others could have written is nobody's word.
        (
            "chmod 666 /var/cache/dkms/results/*/files/module/hello.ko",
            "mv /usr/lib/dkms/sandbox/make /srv; dkms build hello/0.1; mv /srv/make /usr/lib/dkms/sandbox",
        ),
        (
            "chmod 777 /var/cache/dkms/results",
            "chmod 755 /var/cache/dkms/results; mv /usr/lib/dkms/sandbox/make /srv; dkms build hello/0.1; \
             mv /srv/make /usr/lib/dkms/sandbox",
        ),
        (
            "rm -r /var/cache/dkms/results",
            "mv /usr/lib/dkms/sandbox/make /srv; dkms build hello/0.1; mv /srv/make /usr/lib/dkms/sandbox",
        ),
    ] {
        root.fails(&format!("{forget} {change}; dkms build hello/0.1 >/dev/null 2>&1"), 10, "");
        root.sh(&format!("{back}; true"));
        root.says(&format!("{forget} dkms build hello/0.1 2>&1"), BUILT);
    }
    // What it does not depend on may change.
    root.says(&format!("{forget} TERM=x SUDO_USER=me DPKG_MAINTSCRIPT_NAME=postinst dkms build hello/0.1"), BUILT);
}

#[test]
fn what_a_script_may_look_at_counts_only_where_there_is_one() {
    let mut root = Root::cold();
    for (name, more) in [("plain", ""), ("looks", "PRE_BUILD=configure")] {
        root.source("hello-0.1");
        root.sh(&format!("mv /usr/src/hello-0.1 /usr/src/{name}-1; cd /usr/src/{name}-1; rm dkms.conf"));
        root.write(&format!("/usr/src/{name}-1/Makefile"), "obj-m := hello.o");
        root.write(&format!("/usr/src/{name}-1/configure"), "#!/bin/sh\ntrue");
        root.write(
            &format!("/usr/src/{name}-1/dkms.conf"),
            &format!("PACKAGE_NAME={name}\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME=hello\nDEST_MODULE_NAME={name}\nDEST_MODULE_LOCATION=/updates\n{more}"),
        );
        root.sh(&format!("chmod 755 /usr/src/{name}-1/configure; dkms build {name}/1 && dkms unbuild {name}/1"));
    }
    root.sh("printf 'exit 1\\n' >/usr/lib/dkms/sandbox/make");
    // A library that it could link.
    root.sh("printf '\\nPackage: libxtables-dev\\nStatus: install ok installed\\nVersion: 1.8.9-3\\n' >>/var/lib/dpkg/status");
    root.sh("dkms build plain/1");
    root.fails("dkms build looks/1 >/dev/null 2>&1", 10, "");
}

/// A newer version of a package that is installed, with the same in it.
fn upgrade(root: &mut Root, package: &str) {
    root.sh(&format!(
        "cd /srv && apt-get -qq download {package} && dpkg-deb -R {package}_*.deb {package}
         sed -i 's/^Version: .*/&+new/' {package}/DEBIAN/control && dpkg-deb -b {package} && dpkg -i --force-depends {package}.deb"
    ));
}

const NO_MAKE: &str =
    "mv /usr/lib/dkms/sandbox/make /srv/make; printf '#!/bin/sh\nexit 1\n' >/usr/lib/dkms/sandbox/make
    chmod 755 /usr/lib/dkms/sandbox/make";
const MAKE: &str = "mv /srv/make /usr/lib/dkms/sandbox/make";

/// Debian's package whose configure asks for the library of iptables.
#[test]
fn a_library_that_is_upgraded_has_what_looked_at_it_built_again() {
    let mut root = Root::cold();
    root.sh(
        "apt-get -qq -y install libxtables-dev pkg-config && cd /tmp && apt-get -qq download iptables-netflow-dkms \
             && dpkg-deb -x iptables-netflow-dkms_*.deb / && dkms add /usr/src/ipt-netflow-*",
    );
    let id = root.sh("dkms status | sed 's/: added$//'").trim().to_owned();
    // As apt has it.
    let build = format!("PATH=/usr/sbin:/usr/bin:/sbin:/bin dkms build {id} -k $K");
    root.sh(&format!("{build} && dkms unbuild {id} -k $K && {NO_MAKE} && {build}"));
    upgrade(&mut root, "libxtables-dev");
    root.fails(&format!("dkms unbuild {id} -k $K >/dev/null; {build} >/dev/null 2>&1"), 10, "");
    root.sh(&format!("{MAKE}; {build}"));
}

#[test]
fn a_pahole_that_is_upgraded_has_modules_with_types_built_again() {
    let mut root = Root::cold();
    let conf = "PACKAGE_NAME=plain\nPACKAGE_VERSION=1\nBUILT_MODULE_NAME=plain\nDEST_MODULE_LOCATION=/updates";
    root.write("/usr/src/plain-1/dkms.conf", conf);
    root.write("/usr/src/plain-1/Makefile", "obj-m := plain.o");
    root.write("/usr/src/plain-1/plain.c", "#include <linux/module.h>\nMODULE_LICENSE(\"GPL\");");
    let kernel =
        root.sh("ls /var/cache/apt/archives | sed -n 's/^linux-headers-\\(6.12.*-amd64\\)_.*/\\1/p' | tail -n 1");
    root.sh(&format!("apt-get -qq -y install linux-headers-{} pahole", kernel.trim()));
    let build = |release: &str| format!("dkms build plain/1 -k {}", release.trim());
    let unbuild = |release: &str| format!("dkms unbuild plain/1 -k {}", release.trim());
    for release in [&*kernel, "$K"] {
        root.sh(&format!("{} && {}", build(release), unbuild(release)));
    }
    root.sh(&format!("{NO_MAKE}; {} && {}", build(&kernel), unbuild(&kernel)));
    upgrade(&mut root, "pahole");
    root.fails(&format!("{} >/dev/null 2>&1", build(&kernel)), 10, "");
    // Which has no types.
    root.sh(&build("$K"));
    root.sh(&format!("{MAKE}; {}", build(&kernel)));
}

#[test]
fn the_caches_may_go_at_any_time_and_stay_within_their_size() {
    let mut root = kept();
    root.sh("dkms unbuild hello/0.1; rm -rf /var/cache/dkms; dkms build hello/0.1 && test -d /var/cache/dkms/results");
    root.sh("dkms unbuild hello/0.1; rm -rf /var/cache/dkms; echo >/var/cache/dkms; dkms build hello/0.1");
    root.sh("dkms unbuild hello/0.1; rm /var/cache/dkms; echo result_store_size=1k >/etc/dkms/framework.conf.d/size.conf; dkms build hello/0.1");
    root.says("ls /var/cache/dkms/results", "");
    root.sh("echo cache_tree=/srv/caches >/etc/dkms/framework.conf.d/size.conf; dkms unbuild hello/0.1; dkms build hello/0.1");
    root.says("ls /srv/caches", "build-times\nccache\ndigests\nkernels\nknown\nprobes\nresults\n");
    // Somebody looked into one as root.
    root.sh("for dir in /srv/caches/ccache/hello/*; do rm -r $dir/?; CCACHE_DIR=$dir ccache -z; mkdir -p $dir/0/1; done; dkms build hello/0.1 --force");
}

#[test]
fn objects_of_a_package_go_when_it_has_been_gone_for_long() {
    let mut root = kept();
    let objects = "ls /var/cache/dkms/ccache";
    root.sh("cd /var/cache/dkms/ccache; mkdir gone; touch -d '2 months ago' hello gone; dkms remove hello/0.1");
    root.says(objects, "hello\n");
    // It was there a moment ago: an upgrade.
    root.sh("rm -rf /var/cache/dkms/results; dkms add hello/0.1");
    counts(&mut root, "hello");
    root.says("dkms build hello/0.1", BUILT);
    assert!(matches!(counts(&mut root, "hello"), (1.., 0)));
    root.sh("dkms remove hello/0.1; touch -d '2 months ago' /var/cache/dkms/ccache/hello; dkms add hello/0.1");
    root.says(objects, "");
}

#[test]
fn without_ccache_it_works_and_a_person_is_told_once() {
    let mut root = kept();
    root.sh("rm -r /usr/bin/ccache /usr/lib/ccache; rm -rf /var/cache/dkms");
    let terminal = "script -qec 'dkms build hello/0.1 --force' /dev/null | tr -d '\\r' | grep ccache | sed 's/.*\\x1b\\[J//'; true";
    root.says("dkms build hello/0.1 --force", BUILT);
    root.says(terminal, "Modules are built faster with ccache: apt install ccache\n");
    root.says(terminal, "");
    root.says("ls /var/cache/dkms/ccache 2>/dev/null; true", "");
}
