#!/usr/bin/zsh -f
# SPDX-License-Identifier: GPL-2.0-or-later
#
# For `complete zsh`: types the command line into a zsh of its own, and then a tab.

zmodload zsh/zpty
dir=$(mktemp -d)
export OFFERED=$dir/offered NOISE=$dir/noise ZDOTDIR=$dir
cat >$dir/.zshrc <<'END'
autoload -Uz compinit
compinit -u -D
# Everything that is offered goes through here; with an array to be filled nothing is offered.
compadd() {
  if (( ! $argv[(I)-(O|A|D)] )); then
    local -a offered
    local before=$argv[(i)-p]
    builtin compadd -A offered "$@"
    print -rl -- $argv[before+1]${^offered} >>$OFFERED
  fi
  builtin compadd "$@"
}
offer() {
  _main_complete 2>>$NOISE
  compstate[insert]='' compstate[list]=''
  print -n '\a'
}
zle -C offer complete-word offer
bindkey '^I' offer
END
zpty shell zsh -i
zpty -w -n shell "$1"$'\t'
zpty -r shell heard $'*\a'
zpty -d shell
cat $OFFERED 2>/dev/null | sed '/^$/d' | sort -u
cat $NOISE >&2
rm -r $dir
