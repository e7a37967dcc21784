# SPDX-License-Identifier: GPL-2.0-or-later
# fish completion for dkms(8). Everything is looked up in the trees, dkms itself is not asked.

set -g __dkms_actions add build unbuild install uninstall remove status autoinstall match mktarball ldtarball generate_mok

function __dkms_action
    for word in (commandline -opc)[2..]
        contains -- $word $__dkms_actions; and echo $word; and return
    end
    return 1
end

# The value of the option $argv on the command line.
function __dkms_value
    set -l words (commandline -opc)
    for option in $argv
        set -l at (contains -i -- $option $words); and echo $words[(math $at + 1)]; and return
    end
    return 1
end

# M/V of what the action can do something with.
function __dkms_modules
    set -l tree (__dkms_value --dkmstree; or echo /var/lib/dkms)
    set -l source (__dkms_value --sourcetree; or echo /usr/src)
    set -l action (__dkms_action)
    set -l found
    switch "$action"
        case add ldtarball
        case uninstall match
            for link in $tree/*/kernel-*
                echo (string split / -- $link)[-2]/(string split / -- (readlink $link))[1]
            end
            return
        case unbuild
            set found $tree/*/*/*/*/module
        case '*'
            set found $tree/*/*/source
    end
    string replace -- $tree/ '' $found | string match -r '^[^/]+/[^/]+'
    contains -- "$action" unbuild remove status mktarball ldtarball; and return
    for conf in $source/*-*/dkms.conf
        set -l dir (string split / -- $conf)[-2]
        # Names and versions may both contain dashes; mostly the conf says where the name ends.
        set -l name (string match -rg '^ *PACKAGE_NAME=["\']?([^"\' ]+)' <$conf 2>/dev/null)[1]
        string match -q -- "$name-*" $dir; or set name (string replace -r -- '-[0-9].*' '' $dir)
        set -l rest (string replace -- $name- '' $dir)
        test -L $tree/$name/$rest/source; or echo $name/$rest
    end
end

function __dkms_names
    # The slash only where a version was begun.
    string match -q '*/*' -- (commandline -ct); and __dkms_modules; or __dkms_modules | string replace -r '/.*' ''
end

function __dkms_versions
    set -l module (__dkms_value -m --module)
    __dkms_modules | string replace -rf -- '^'(string escape --style=regex -- "$module")'/' ''
end

function __dkms_kernels
    if contains -- "$(__dkms_action)" remove unbuild uninstall status mktarball
        set -l found (__dkms_value --dkmstree; or echo /var/lib/dkms)/*/*/*/*/module
        string split -f 1 -m 2 -r / -- $found | string replace -r '.*/' ''
    else
        string replace -r '.*/' '' -- (__dkms_value --installtree; or echo /lib/modules)/*
    end
end

complete -c dkms -f
complete -c dkms -n 'not __dkms_action >/dev/null' -a "$__dkms_actions"
complete -c dkms -n '__dkms_action >/dev/null' -a '(__dkms_modules)'
complete -c dkms -n 'contains -- "$(__dkms_action)" add ldtarball' -F
complete -c dkms -s m -l module -x -a '(__dkms_names)' -d 'Module, or module/version'
complete -c dkms -s v -x -a '(__dkms_versions)' -d 'Version of the module'
complete -c dkms -s k -l kernelver -x -a '(__dkms_kernels)' -d 'Kernel release'
complete -c dkms -s a -l arch -x -a '(uname -m)' -d Architecture
complete -c dkms -l all -d 'All kernels for which the module is built'
complete -c dkms -s c -rF -d 'dkms.conf to use'
complete -c dkms -l config -rF -d 'Configuration of the kernel'
complete -c dkms -l kernelsourcedir -x -a '(__fish_complete_directories)' -d 'Build directory of the kernel'
complete -c dkms -l directive -x -d 'NAME=VALUE: override a directive of dkms.conf'
complete -c dkms -l dkmstree -x -a '(__fish_complete_directories)' -d State
complete -c dkms -l sourcetree -x -a '(__fish_complete_directories)' -d Sources
complete -c dkms -l installtree -x -a '(__fish_complete_directories)' -d 'Module directories of kernels'
complete -c dkms -l templatekernel -x -a '(__dkms_kernels)' -d 'Kernel to take as the pattern'
complete -c dkms -l archive -rF -d 'Tarball to read or write'
complete -c dkms -l source-only -d 'A tarball without what was built'
complete -c dkms -l binaries-only -d 'A tarball without the source'
complete -c dkms -l symlink-modules -d 'Install links in place of copies'
complete -c dkms -s j -x -d 'Jobs of make'
complete -c dkms -l force -d 'Do it again, or against objections'
complete -c dkms -l force-version-override -d 'Install over a newer module'
complete -c dkms -l no-depmod -d 'Do not run depmod'
complete -c dkms -l modprobe-on-install -d 'Load the module afterwards'
complete -c dkms -l verbose -d 'Show commands and their output'
complete -c dkms -l debug -d Trace
complete -c dkms -s q -l quiet -d 'Print nothing'
complete -c dkms -s V -l version -d 'Show the version of dkms'
complete -c dkms -s h -l help -d 'Show how dkms is used'
