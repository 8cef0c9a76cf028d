#!/bin/sh
# Writes every sample anew with the published weights: outputs/samples.sh [path of the movieplotgpt command].
# Each file holds the command that made it, then what it printed. First plots, no picking.
set -eu
cd "$(dirname "$0")/.."
command=${1:-.venv/bin/movieplotgpt}

sample() {  # a file below outputs/, then the arguments of `movieplotgpt generate`
    file=outputs/$1
    shift
    mkdir -p "$(dirname "$file")"
    {
        printf '$ movieplotgpt generate'
        for argument; do
            case $argument in
                *[!A-Za-z0-9.:-]*) printf ' "%s"' "$argument" ;;
                *) printf ' %s' "$argument" ;;
            esac
        done
        printf '\n\n'
        "$command" generate "$@" --no-stream
    } >"$file.partial"
    mv "$file.partial" "$file"
}

twenty=outputs/movie-plots/twenty.txt # the same seed for twenty titles, none left out
mkdir -p "$(dirname "$twenty")"
for title in "Mars, Texas" "The Last Tram" "Harbour Lights" "The Clockmaker's Debt" "Salt and Copper" "Night Train to Gdansk" \
    "The Beekeeper's Wife" "Eleven Days in June" "Dust" "A Wedding in Madras" "The Man Who Sold the Sea" "Cold Harbor" \
    "Miss Flanagan Regrets" "Return of the Iron Monkey" "The Quiet Neighbour" "Two Tickets to Cairo" "Blood on the Orchard" \
    "Grandfather's Radio" "The Ninth Passenger" "Love, Etc."; do
    printf '$ movieplotgpt generate --title "%s" --seed 1\n\n' "$title"
    "$command" generate --title "$title" --seed 1 --no-stream
    echo
done >"$twenty.partial"
mv "$twenty.partial" "$twenty"

sample movie-plots/the-lighthouse-keepers-daughter.txt --title "The Lighthouse Keeper's Daughter" --seed 1
sample movie-plots/mars-texas.txt --title "Mars, Texas" --seed 1
sample movie-plots/the-last-tram.txt --title "The Last Tram" --decade 1950s --origin British --seed 1
sample movie-plots/begun.txt --input "The plot summary of the movie named 'Salt and Copper' is:
A retired thief" --seed 1
sample movie-plots/characters.txt --model plots-char --title "The Last Tram" --seed 1
sample office/michael.txt --model office-bpe --input "Michael:" --seed 1
sample office/dwight.txt --model office-bpe --input "Dwight: " --seed 2
sample office/characters.txt --model office-char --input "Michael:" --seed 1
