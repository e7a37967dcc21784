#!/usr/bin/zsh -f
# SPDX-License-Identifier: GPL-2.0-or-later
#
# For `complete zsh`: types each command line into a zsh of its own, and then a tab.

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
  print -n '<offered>'
}
zle -C offer complete-word offer
bindkey '^I' offer
END
zpty shell zsh -i
for line; do
  : >$OFFERED
  # What was typed before goes.
  zpty -w -n shell $'\C-u'"$line"$'\t'
  zpty -r shell heard '*<offered>'
  print -r -- "# $line"
  sed '/^$/d' $OFFERED | sort -u
done
zpty -d shell
cat $NOISE >&2
rm -r $dir
