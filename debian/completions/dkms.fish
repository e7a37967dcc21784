# SPDX-License-Identifier: GPL-2.0-or-later
# fish completion for dkms(8). Everything is looked up in the trees, dkms itself is not asked.

set -g __dkms_actions add build unbuild install uninstall remove status autoinstall match mktarball ldtarball mkdeb mkdsc mkbmdeb mkrpm plan export generate_mok

# Sets what the words before the cursor say, for the functions below.
function __dkms_said
    set -g __dkms_action
    set -g __dkms_module
    set -g __dkms_version
    set -g __dkms_tree /var/lib/dkms
    set -g __dkms_source /usr/src
    set -g __dkms_install /lib/modules
    set -l words (commandline -opc)[2..]
    while set -q words[1]
        set -l word $words[1]
        set -l value $words[2]
        set -e words[1]
        if string match -q -- '--*=*' $word
            set value (string split -m 1 = -- $word)[2]
            set word (string split -m 1 = -- $word)[1]
        else if string match -qr -- '^(-[mvkacj]|--(module|kernelver|arch|config|directive|archive|templatekernel|kernelsourcedir|maintainer|description|section|homepage|license|package-version|from-plan|to|gpg-key|.*tree))$' $word
            set -e words[1]
        end
        switch $word
            case -m --module
                set __dkms_module $value
            case -v
                set __dkms_version $value
            case --dkmstree
                set __dkms_tree $value
            case --sourcetree
                set __dkms_source $value
            case --installtree
                set __dkms_install $value
            case '-*'
            case '*'
                if test -z "$__dkms_action"; and contains -- $word $__dkms_actions
                    set __dkms_action $word
                else
                    set __dkms_module $word
                end
        end
    end
    if string match -q '*/*' -- $__dkms_module
        set __dkms_version (string split -m 1 / -- $__dkms_module)[2]
        set __dkms_module (string split -m 1 / -- $__dkms_module)[1]
    end
end

# What is there, as lines of MODULE/VERSION or MODULE/VERSION/KERNEL.

function __dkms_sources
    for conf in $__dkms_source/*-*/dkms.conf
        set -l dir (string split / -- $conf)[-2]
        # Names and versions may both contain dashes; mostly the conf says where the name ends.
        set -l name (string match -rg '^ *PACKAGE_NAME=["\']?([^"\' ]+)' <$conf 2>/dev/null)[1]
        string match -q -- "$name-*" $dir; or set name (string replace -r -- '-[0-9].*' '' $dir)
        set -l rest (string replace -- $name- '' $dir)
        test -L $__dkms_tree/$name/$rest/source; or echo $name/$rest
    end
end

function __dkms_added
    set -l found $__dkms_tree/*/*/source
    string match -rg -- '([^/]+/[^/]+)/source$' $found
end

function __dkms_built
    set -l found $__dkms_tree/*/*/*/*/module
    string match -rg -- '([^/]+/[^/]+/[^/]+)/[^/]+/module$' $found
end

function __dkms_installed
    for link in $__dkms_tree/*/kernel-*
        echo (string split / -- $link)[-2]/(string replace -r -- '/[^/]+$' '' (readlink $link))
    end
end

# The modules that the action can do something with.
function __dkms_modules
    switch "$__dkms_action"
        case add
            __dkms_sources
        case uninstall match
            __dkms_installed
        case unbuild mkbmdeb export
            __dkms_built
        case remove status mktarball mkdeb mkdsc mkrpm plan
            __dkms_added
        case '*'
            __dkms_added
            __dkms_sources
    end | string match -r '^[^/]+/[^/]+'
end

# The kernels for which it can do that: where it has to build, those that have headers.
function __dkms_kernels
    __dkms_said
    set -l found
    switch "$__dkms_action"
        case uninstall
            set found (__dkms_installed)
        case install remove unbuild status mktarball mkdeb mkdsc mkbmdeb mkrpm export
            set found (__dkms_built)
    end
    set -q __dkms_module[1]; or set __dkms_module '*'
    set -q __dkms_version[1]; or set __dkms_version '*'
    string match -- "$__dkms_module/$__dkms_version/*" $found | string replace -r '.*/' ''
    set -l kernels
    switch "$__dkms_action"
        case uninstall remove unbuild status mktarball mkdeb mkdsc mkbmdeb mkrpm export
        case build install autoinstall match plan
            set kernels $__dkms_install/*/build/include
        case '*'
            set kernels $__dkms_install/*
    end
    string replace -- $__dkms_install/ '' $kernels | string replace -r '/.*' ''
end

function __dkms_names
    __dkms_said
    # A name, and the slash only where a version was begun.
    string match -q '*/*' -- (commandline -ct); and __dkms_modules; or __dkms_modules | string replace -r '/.*' ''
end

function __dkms_versions
    __dkms_said
    __dkms_modules | string replace -rf -- '^'(string escape --style=regex -- "$__dkms_module")'/' ''
end

function __dkms_templates
    __dkms_said
    __dkms_installed | string replace -r '.*/' ''
end

function __dkms_arches
    __dkms_said
    uname -m
    set -l found $__dkms_tree/*/*/*/*/module
    string match -rg -- '([^/]+)/module$' $found
end

# The action, and then what it is for.
function __dkms_words
    __dkms_said
    if test -z "$__dkms_action"
        printf '%s\n' $__dkms_actions
    else if test -z "$__dkms_module"
        switch $__dkms_action
            case autoinstall generate_mok ldtarball
            case match
                __dkms_modules | string replace -r '/.*' ''
            case '*'
                __dkms_modules
        end
    end
end

# Whether it may be what is not registered yet, in a directory or a tarball.
function __dkms_takes_files
    __dkms_said
    test -z "$__dkms_module"; or return
    switch "$__dkms_action"
        case add ldtarball
        case build install
            string match -qr '^[./~]' -- (commandline -ct)
        case '*'
            return 1
    end
end

complete -c dkms -f -a '(__dkms_words)'
complete -c dkms -n __dkms_takes_files -F
complete -c dkms -s m -l module -x -a '(__dkms_names)' -d 'Module, or module/version'
complete -c dkms -s v -x -a '(__dkms_versions)' -d 'Version of the module'
complete -c dkms -s k -l kernelver -x -a '(__dkms_kernels)' -d 'Kernel release'
complete -c dkms -s a -l arch -x -a '(__dkms_arches)' -d Architecture
complete -c dkms -l all -d 'All kernels for which the module is built'
complete -c dkms -s c -rF -d 'dkms.conf to use'
complete -c dkms -l config -rF -d 'Configuration of the kernel'
complete -c dkms -l kernelsourcedir -x -a '(__fish_complete_directories)' -d 'Build directory of the kernel'
complete -c dkms -l directive -x -d 'NAME=VALUE: override a directive of dkms.conf'
complete -c dkms -l dkmstree -x -a '(__fish_complete_directories)' -d State
complete -c dkms -l sourcetree -x -a '(__fish_complete_directories)' -d Sources
complete -c dkms -l installtree -x -a '(__fish_complete_directories)' -d 'Module directories of kernels'
complete -c dkms -l templatekernel -x -a '(__dkms_templates)' -d 'Kernel to take as the pattern'
complete -c dkms -l archive -rF -d 'Tarball to read or write'
complete -c dkms -l source-only -d 'A tarball or package without what was built'
complete -c dkms -l binaries-only -d 'A tarball or package without the source'
complete -c dkms -l maintainer -x -d 'NAME <ADDRESS>: whose package it is'
complete -c dkms -l description -x -d 'What a package is'
complete -c dkms -l section -x -d 'The section of a package'
complete -c dkms -l homepage -x -d 'Where the module comes from'
complete -c dkms -l license -x -d 'The licence of the source'
complete -c dkms -l package-version -x -d 'Version of a package'
complete -c dkms -l json -d 'Tell a plan as JSON'
complete -c dkms -l from-plan -rF -d 'Build what a job of a plan says'
complete -c dkms -l to -x -a '(__fish_complete_directories)' -d 'Where results are exported to'
complete -c dkms -l gpg-key -x -d 'Who signs the lists of what is exported'
complete -c dkms -l sign-modules -d 'Sign the modules that are exported'
complete -c dkms -l failed -d 'The status of what hooks could not install'
complete -c dkms -l symlink-modules -d 'Install links in place of copies'
complete -c dkms -s j -x -a '0 1 (nproc 2>/dev/null)' -d 'Jobs of make'
complete -c dkms -l force -d 'Do it again, or against objections'
complete -c dkms -l force-version-override -d 'Install over a newer module'
complete -c dkms -l no-depmod -d 'Do not run depmod'
complete -c dkms -l modprobe-on-install -d 'Load the module afterwards'
complete -c dkms -l verbose -d 'Show commands and their output'
complete -c dkms -l debug -d Trace
complete -c dkms -s q -l quiet -d 'Print nothing'
complete -c dkms -s V -l version -d 'Show the version of dkms'
complete -c dkms -s h -l help -d 'Show how dkms is used'
