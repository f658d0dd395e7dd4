"""Procedural sound events: a sound library that needs no download.

Knows: the spectrum and the rhythm of about sixty everyday sounds, each a function of a few lines
made of the building blocks in `waves.py`. Every call draws new pitches, tempi, counts and colours,
so that a label is a family of sounds and not one recording. Does not know: what a sound means
(`ontology.py`) or how sounds are mixed into a stream (`compose.py`). Stands in for the clips that
the paper retrieves (§3.2). Taught in notebook 01.

A new sound is a function `name(rng) -> [n]` in the right section, its name in `EVENTS`, and an
entry in `texts/ontology.yaml`. The functions stand close together, like a dictionary's entries.
"""
# ruff: noqa: E731, E302, E305, E306

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial

import numpy as np

from aikit.synth.waves import (RATE, Rng, arc, band, beeps, buzz, curve, decay, draw_variation,
                               finish, gliding_noise, grains, held, knock, mix, modes, noise,
                               repeat, snap, steady, times, tone, vary, voice, vowel, wobble)

LONGEST = int(4.2 * RATE)  # samples of a bare event; the rest is cut off

# --- people --------------------------------------------------------------------------------------

def baby_cry(rng):
    pitch, mouth = rng.uniform(360, 520), rng.uniform(0.9, 1.15)
    def wail():
        s = rng.uniform(0.6, 1.2)
        line = pitch * rng.uniform(0.93, 1.07) * curve(s, 0.85, 1.15, 1.2, 1.1, 0.8)
        rough = 1 + rng.uniform(0, 0.4) * wobble(rng, s, 60)
        cry = voice(rng, line, 1100 * mouth, 2600 * mouth, slope=0.9) * arc(s, 0.4) * rough
        return mix((0, cry), (s + 0.05, 0.1 * noise(rng, 0.2, 1500, 5000) * arc(0.2)))
    return repeat(rng, wail, rng.integers(2, 4), rng.uniform(1.2, 1.45))

def scream(rng):
    s, top = rng.uniform(0.9, 1.8), rng.uniform(900, 1600)
    line = top * curve(s, 0.6, 1, 1.03, 1, 0.98, 0.9, 0.65) * (1 + 0.03 * wobble(rng, s, 12))
    rough = 1 + rng.uniform(0.2, 0.5) * tone(steady(s, rng.uniform(45, 90)))
    cry = voice(rng, line, 1400, 2800, 4000, breath=0.25, slope=0.4)
    return cry * rough * curve(s, 0, 1, 1, 0.9, 0.8, 0)

def sneeze(rng):
    pitch, hush = rng.uniform(170, 380), rng.uniform(0.2, 0.45)
    inhale = 0.12 * noise(rng, hush, 700, 3000) * curve(hush, 0, 0.4, 1)
    jet = noise(rng, 0.4, 200, 6500)
    burst = vowel(jet, 700, 1600, 3200, 4800, width=0.3) * decay(0.4, 0.012, rng.uniform(0.05, 0.1))
    line = pitch * curve(0.35, 1.5, 1.2, 0.8)
    choo = voice(rng, line, 450, 1100, 2500, breath=0.2) * decay(0.35, 0.02, 0.1)
    one = mix((0, inhale), (hush + 0.04, 1.2 * burst), (hush + 0.05, rng.uniform(0.3, 2) * choo))
    return mix(*((i * (hush + 0.75), one) for i in range(rng.choice((1, 1, 2)))))

def cough(rng):
    pitch, throat = rng.uniform(110, 300), rng.uniform(0.85, 1.2)
    def one():
        s = rng.uniform(0.2, 0.32)
        air = vowel(noise(rng, s, 250, 5000), 700 * throat, 1500 * throat, 2900)
        body = voice(rng, pitch * curve(s, 1.2, 1, 0.7), 700 * throat, 1300 * throat, breath=0.5)
        return air * decay(s, 0.008, 0.05) + 0.8 * body * decay(s, 0.03, 0.06)
    return repeat(rng, one, rng.integers(2, 5), rng.uniform(0.3, 0.42), 0.15, 0.5)

def groan(rng):
    pitch, mouth = rng.uniform(85, 210), rng.uniform(0.9, 1.15)
    def one():
        s = rng.uniform(0.9, 1.5)
        line = pitch * curve(s, 0.95, 1.15, 1.1, 0.9, 0.75) * (1 + 0.03 * wobble(rng, s, 9))
        creak = 1 - rng.uniform(0.1, 0.5) * (wobble(rng, s, 25) > 0.3)
        moan = voice(rng, line, 480 * mouth, 950 * mouth, 2300, breath=0.12, slope=1.1)
        return moan * arc(s, 0.7) * creak
    return repeat(rng, one, rng.integers(1, 3), rng.uniform(1.5, 1.9))

def laughter(rng):
    pitch, mouth, count = rng.uniform(170, 380), rng.uniform(0.9, 1.15), rng.integers(5, 11)
    s, fall = rng.uniform(0.11, 0.15), iter(np.linspace(1.25, 0.85, count))
    def ha():
        h = 0.25 * vowel(noise(rng, 0.07, 600, 5000), 800, 1400) * arc(0.07)
        line = pitch * next(fall) * curve(s, 1.05, 1, 0.85)
        a = voice(rng, line, 800 * mouth, 1300 * mouth, 2700, breath=0.2) * arc(s, 0.6)
        return mix((0, h), (0.05, a))
    return repeat(rng, ha, count, rng.uniform(0.18, 0.24), 0.1)

def snoring(rng):
    s, flutter = rng.uniform(1.0, 1.4), rng.uniform(24, 45)
    pulses = buzz(flutter * (1 + 0.15 * wobble(rng, s, 8)), 0.6, count=60)
    flow = 0.3 * noise(rng, s, 100, 1500) * (0.5 + pulses)
    inhale = vowel(1.5 * pulses + flow, 260, 650, 1300, width=0.3) * arc(s, 0.6)
    exhale = 0.12 * noise(rng, 0.8 * s, 300, 2200) * arc(0.8 * s)
    return mix((0, inhale), (s + 0.15, exhale), (2 * s + 0.3, inhale * rng.uniform(0.6, 1)))

def applause(rng):
    s = rng.uniform(2.2, 3.8)
    clap = lambda: snap(rng, 0.03, rng.uniform(600, 1400), rng.uniform(2000, 4500), 0.006)
    crowd = grains(rng, s, rng.uniform(80, 260), clap, 8, tail=0.6, shape=0.3 + arc(s, 0.5))
    return crowd * (0.4 + arc(s, 0.4))

def footsteps(rng):
    heel, floor = rng.uniform(70, 160), rng.uniform(900, 3000)
    def step():
        sole = 0.25 * noise(rng, 0.09, floor * 0.4, floor * 1.4) * decay(0.09, 0.01, 0.025)
        return mix((0, knock(rng, heel, 0.025, 0.5, floor)), (rng.uniform(0.05, 0.09), sole))
    return repeat(rng, step, rng.integers(4, 7), rng.uniform(0.45, 0.68), 0.06, 0.4)

def fall_down(rng):
    thud = 2 * knock(rng, rng.uniform(45, 75), rng.uniform(0.06, 0.11), 1.0, 900)
    slap = noise(rng, 0.2, 100, 900) * decay(0.2, 3e-3, 0.05)
    hard, count = rng.uniform(350, 900), rng.integers(5, 10)
    when = 0.15 + np.cumsum(np.geomspace(rng.uniform(0.15, 0.24), 0.04, count))  # it comes to rest
    rattle = ((w, 0.7 * 0.82 ** i * knock(rng, hard, 0.02, 0.6, 3000)) for i, w in enumerate(when))
    return mix((0, thud), (0.01, slap), *rattle)

def brushing_teeth(rng):
    stroke, low = rng.uniform(3.2, 5.5), rng.uniform(1800, 3200)
    half = 0.45 / stroke
    def back_and_forth():
        forth, back = noise(rng, half, low, 7000), 0.7 * noise(rng, half, low * 0.6, 5000)
        return mix((0, forth * arc(half, 0.8)), (0.5 / stroke, back * arc(half, 0.8)))
    return repeat(rng, back_and_forth, int(stroke * rng.uniform(2, 3)), 1 / stroke, 0.1, 0.35)

# --- weather, water, ground, fire ----------------------------------------------------------------

def thunder(rng):
    s = rng.uniform(3.0, 4.0)
    roll = noise(rng, s, 0, rng.uniform(90, 180)) * (0.5 + np.abs(wobble(rng, s, 5)))
    crack = noise(rng, 1.0, 150, rng.uniform(1000, 3500)) * (0.3 + np.abs(wobble(rng, 1.0, 30)))
    return mix((0, 1.5 * roll * decay(s, rng.uniform(0.1, 0.6), 1.3)),
               (rng.uniform(0, 0.25), rng.uniform(0.3, 1.2) * crack * decay(1.0, 0.01, 0.15)))

def strong_wind(rng):
    s, centre = rng.uniform(3.0, 4.0), rng.uniform(350, 800)
    gust = 0.55 + 0.45 * wobble(rng, s, 1.5)
    howl = gliding_noise(rng, centre * (0.7 + 0.6 * gust), rng.uniform(30, 90))
    return gust * (noise(rng, s, 60, 500) + 1.3 * howl + 0.2 * gust * noise(rng, s, 800, 4000))

def hail(rng):
    s, roof = rng.uniform(2.2, 3.6), rng.uniform(1500, 3500)
    stone = lambda: knock(rng, roof * rng.uniform(0.6, 1.4), rng.uniform(2e-3, 6e-3), 1.0, 5000)
    patter = grains(rng, s, rng.uniform(35, 90), stone, 8, tail=1.2)
    return patter + 0.06 * noise(rng, s, 1500, 7000)

def rain(rng):
    s, wet = rng.uniform(2.5, 4.0), rng.uniform(500, 3000)
    drop = lambda: snap(rng, 0.008, wet * rng.uniform(0.7, 1.4), 8000, 0.002)
    patter = grains(rng, s, rng.uniform(200, 1500), drop, 6)
    hush = noise(rng, s, wet * 0.3, 6000) + rng.uniform(0.3, 1.5) * noise(rng, s, 40, 600)
    return patter / np.std(patter) + rng.uniform(0.5, 1.5) * hush

def rock_fall(rng):
    s = rng.uniform(2.0, 3.2)
    slide = decay(s, rng.uniform(0.2, 0.8), 0.8)
    stone = lambda: knock(rng, rng.uniform(150, 700), rng.uniform(0.008, 0.03), 0.8, 1800)
    stones = grains(rng, s, rng.uniform(18, 40), stone, 10, tail=1.3, shape=slide)
    gravel = grains(rng, s, 150, lambda: knock(rng, 1500, 0.003, 1, 3000), 3, shape=slide)
    return stones + 0.25 * gravel + 0.5 * noise(rng, s, 30, 150) * slide

def water_drip(rng):
    pitch = rng.uniform(550, 1300)
    def drip():
        line = pitch * rng.uniform(0.85, 1.2) * curve(0.12, 1, 1.25, 1.7)  # the bubble shrinks
        plop = tone(line) * decay(0.12, 2e-3, 0.025)
        return mix((0, 0.2 * snap(rng, 0.01, 2500, 7000, 0.002)), (0.015, plop))
    return repeat(rng, drip, rng.integers(3, 6), rng.uniform(0.4, 0.8), 0.1, 0.4)

def pouring_water(rng):
    s, glass = rng.uniform(2.0, 3.5), rng.uniform(350, 700)
    def bubble(fill):
        line = glass * fill * rng.uniform(0.8, 1.8) * curve(0.05, 1, 1.3)
        return tone(line) * decay(0.05, 2e-3, rng.uniform(0.008, 0.018))
    # the air left in the glass gets shorter, so the pitch climbs
    parts = ((i * s / 6, grains(rng, s / 5, 90, partial(bubble, fill)))
             for i, fill in enumerate(np.linspace(1, 2.2, 6)))
    splash = 0.25 * noise(rng, s, 1500, 6000) * (1 + 0.4 * wobble(rng, s, 12))
    return mix(*parts, (0, splash * held(s, 0.15)))

def sea_waves(rng):
    s, crest = rng.uniform(3.5, 4.2), rng.integers(1, 5)
    swell = curve(s, *np.roll((1, 0.5, 0.3, 0.2, 0.2, 0.4), crest))
    foam = rng.uniform(0.5, 1.1) * noise(rng, s, 900, 6000)
    return swell * noise(rng, s, 80, 900) + swell ** 2 * foam

def explosion(rng):
    s = rng.uniform(1.5, 2.5)
    blast = noise(rng, s, 0, rng.uniform(500, 1500)) * decay(s, 4e-3, rng.uniform(0.15, 0.35))
    rumble = noise(rng, s, 25, 110) * decay(s, 0.05, 0.5)
    debris = grains(rng, s, 25, lambda: knock(rng, 900, 0.006, 1, 3000), shape=decay(s, 0.3, 0.5))
    return np.tanh(2.2 * blast + 1.5 * rumble) + 0.06 * debris

def fire_crackling(rng):
    s = rng.uniform(2.5, 4.0)
    pop = lambda: snap(rng, 0.012, rng.uniform(800, 2500), 8000, rng.uniform(8e-4, 3e-3))
    crackle = grains(rng, s, rng.uniform(10, 60), pop, 6, tail=2.0)
    roar = rng.uniform(0.1, 0.4) * noise(rng, s, 40, 250) * (1 + 0.4 * wobble(rng, s, 6))
    return crackle + roar + rng.uniform(0.05, 0.2) * noise(rng, s, 200, 7000)

# --- animals -------------------------------------------------------------------------------------

def dog_bark(rng):
    size = rng.uniform(0.6, 1.6)  # 0.6 is a large dog
    def bark():
        s = rng.uniform(0.35, 0.42)
        line = 420 * size * rng.uniform(0.92, 1.08) * curve(s, 0.75, 1.25, 1, 0.75, 0.6, 0.6)
        mouth = 750 * size ** 0.5, 1300 * size ** 0.5
        throat = voice(rng, line, *mouth, breath=0.4, slope=0.9)
        return band(throat, 250, rng.uniform(2000, 4000)) * decay(s, 0.02, rng.uniform(0.05, 0.09))
    return repeat(rng, bark, rng.integers(1, 5), rng.uniform(0.32, 0.6), 0.25, 0.3)

def cat_meow(rng):
    s = rng.uniform(0.6, 1.1)
    line = rng.uniform(420, 750) * curve(s, 0.85, 1.1, 1.2, 1.1, 0.9, 0.75)
    mi = voice(rng, line, 900, 2400, 3600, slope=0.6)
    aow = voice(rng, line, 900, 1300, slope=1.0)
    closing = curve(s, 1, 1, 0.5, 0, 0)
    return (closing * mi + (1 - closing) * aow) * arc(s, 0.6)

def rooster(rng):
    pitch, last = rng.uniform(520, 800), rng.uniform(0.7, 1.2)
    syllables = ((0, 0.16, (0.8, 1, 0.95)), (0.26, 0.14, (1, 1.1, 1)), (0.44, 0.24, (1, 1.3, 1.1)),
                 (0.72, last, (1.1, 1.45, 1.4, 1.3, 0.9, 0.65)))  # cock - a - doodle - doo
    harsh, mouth = rng.uniform(0.1, 0.5), rng.uniform(0.85, 1.15) * np.array((1100, 2000, 3200))
    call = lambda s, line: voice(rng, pitch * curve(s, *line), *mouth, breath=harsh, slope=0.9)
    return mix(*((start, call(s, line) * arc(s, 0.35)) for start, s, line in syllables))

def crickets(rng):
    pitch, pulse, count = rng.uniform(3900, 5200), rng.uniform(0.018, 0.03), rng.integers(3, 6)
    wing = tone(steady(pulse, pitch)) * arc(pulse, 0.7)
    chirp = mix(*((i * pulse * 1.5, wing) for i in range(count)))
    period = pulse * 1.5 * count + rng.uniform(0.08, 0.3)
    return repeat(rng, lambda: chirp, int(3 / period), period, 0.05, 0.15)

def bird_song(rng):
    pitch, at, notes = rng.uniform(2400, 4200), 0.0, []
    while at < rng.uniform(1.4, 2.6):
        s = rng.uniform(0.05, 0.2)
        line = pitch * curve(s, *rng.uniform(0.75, 1.5, 3))
        for _ in range(rng.choice((1, 1, 2, 5))):  # some syllables are trilled
            notes.append((at, tone(line) * arc(s, 0.7) * rng.uniform(0.5, 1)))
            at += s + rng.uniform(0.015, 0.04)
        at += rng.uniform(0.02, 0.15)
    return mix(*notes)

def frog(rng):
    pulse, throat = rng.uniform(45, 85), rng.uniform(550, 1100)
    def croak(s, colour):
        rasp = np.maximum(tone(pulse * curve(s, 0.9, 1.1, 1.2)), 0) ** 3
        sac = vowel(buzz(steady(s, throat / 3), 0.9), throat * colour, 2.2 * throat * colour)
        return rasp * sac * arc(s, 0.5)
    ribbit = lambda: mix((0, 0.7 * croak(0.13, 0.8)), (0.17, croak(0.2, 1.2)))
    return repeat(rng, ribbit, rng.integers(2, 5), rng.uniform(0.55, 0.85), 0.1)

# --- house ---------------------------------------------------------------------------------------

def door_bell(rng):
    partials, taus = np.array((1, 2.0, 3.01, 5.2)), (0.45, 0.3, 0.15, 0.06)
    notes = rng.uniform(560, 900) * np.array((1, 0.794, 1.0))  # a major third down: ding, dong
    step = rng.uniform(0.4, 0.7)
    rings = ((i * step, modes(f * partials, taus, (1, 0.35, 0.3, 0.15))[:24_000])
             for i, f in enumerate(notes[:rng.choice((2, 2, 3))]))
    return mix(*rings)

def smoke_alarm(rng):
    on, pitch = rng.uniform(0.42, 0.55), rng.uniform(2850, 3400)
    three = beeps(pitch, on, rng.uniform(0.4, 0.5), 3, 1.0)  # the T3 pattern: three, then a pause
    return mix((0, three), (3 * on + rng.uniform(1.7, 2.0), beeps(pitch, on, 0, 1, 1.0)))

def electric_buzz(rng):
    s, mains = rng.uniform(1.5, 3.0), rng.choice((100.0, 120.0))
    arcing = wobble(rng, s, rng.uniform(8, 16)) > rng.uniform(-0.5, 0)
    arcing = np.convolve(arcing, np.ones(80) / 80, "same")
    rasp = buzz(steady(s, mains), 0.45, count=64)
    spark = grains(rng, s, 40, lambda: snap(rng, 0.006, 2500, 8000, 1e-3), tail=1.5)
    return arcing * (rasp + 0.4 * np.abs(rasp) * noise(rng, s, 2000)) + 0.1 * rasp + 0.5 * spark

def gas_hiss(rng):
    s, low = rng.uniform(2.0, 3.5), rng.uniform(2500, 4500)
    jet = noise(rng, s, low) + rng.uniform(0.2, 0.6) * noise(rng, s, low * 1.2, low * 1.4)
    return jet * curve(s, 0.5, 1, 1, 0.95, 0.9) * held(s, 0.08) * (1 + 0.05 * wobble(rng, s, 20))

def glass_break(rng):
    crash = noise(rng, 0.25, 1500) * decay(0.25, 1e-3, 0.035)
    def shard(loudness):
        taus = rng.uniform(0.01, 0.08, 3)
        return loudness * modes(rng.uniform(1800, 7200, 3), taus, (1, 0.6, 0.4))
    when = np.minimum(rng.exponential(rng.uniform(0.12, 0.3), rng.integers(18, 35)), 1.2)
    shards = ((w, shard(rng.uniform(0.05, 0.5) * np.exp(-w))) for w in when)
    return mix((0, crash), (0, 0.3 * knock(rng, 500, 0.02)), *shards)

def door_knock(rng):
    door, hard = rng.uniform(110, 240), rng.uniform(0.2, 0.6)
    hit = lambda: knock(rng, door, 0.03, hard, 1600)
    group = lambda: repeat(rng, hit, rng.integers(3, 6), rng.uniform(0.16, 0.28), 0.1)
    return mix((0, group()), (rng.uniform(1.6, 1.9), group())) if rng.uniform() < 0.4 else group()

def kettle_whistle(rng):
    s, pitch = rng.uniform(2.5, 3.8), rng.uniform(1900, 2700)
    line = pitch * curve(s, 0.82, 0.95, 1, 1.01, 1.0) * (1 + 0.006 * wobble(rng, s, 15))
    steam = noise(rng, s, 1000, 7000) * curve(s, 0.25, 0.15, 0.12)
    whistle = tone(line) + 0.3 * tone(2 * line) + 0.2 * gliding_noise(rng, line, 120)
    return steam + whistle * curve(s, 0.03, 0.6, 1, 1, 1, 0.9)

def appliance_beep(rng):
    on, off = rng.uniform(0.1, 0.2), rng.uniform(0.12, 0.25)
    return beeps(rng.uniform(1700, 2350), on, off, rng.integers(3, 7), 2.5)

def typing(rng):
    hard, body = rng.uniform(1800, 3500), rng.uniform(250, 450)
    def key():
        up = 0.4 * knock(rng, 600, 0.003, 1.0, hard * 1.3)
        return mix((0, knock(rng, body, 0.006, 1.2, hard)), (rng.uniform(0.05, 0.09), up))
    return repeat(rng, key, rng.integers(12, 26), rng.uniform(0.1, 0.16), 0.8, 0.6)

def paper_crumple(rng):
    s = rng.uniform(1.2, 2.4)
    fold = lambda: snap(rng, 0.006, rng.uniform(1500, 3000), 8000, rng.uniform(5e-4, 2e-3))
    hands = np.abs(wobble(rng, s, 7)) ** 1.5 + 0.02
    crackle = grains(rng, s, rng.uniform(250, 500), fold, 6, tail=1.5, shape=hands)
    return crackle + 0.25 * noise(rng, s, 1500, 6000) * hands

def clock_tick(rng):
    steel, case = rng.uniform(1400, 4200), 0.4 * knock(rng, rng.uniform(250, 600), 0.01, 0)
    period = rng.choice((0.25, 0.5, 0.5, 1.0)) * rng.uniform(0.9, 1.1)
    tick = knock(rng, steel, 0.004, 0.6, 4000)
    tock = 0.7 * knock(rng, 0.8 * steel, 0.004, 0.6, 4000)
    beats = ((i * period, (tick, tock)[i % 2]) for i in range(int(rng.uniform(2.5, 3.5) / period)))
    return mix(*(hit for at, beat in beats for hit in ((at, beat), (at, case))))

def camera_click(rng):
    gap, body = rng.uniform(0.06, 0.16), rng.uniform(900, 1800)
    mirror = knock(rng, body, 0.004, 1.5, 4000)
    shutter = 0.8 * knock(rng, 1.2 * body, 0.004, 1.5, 4000)
    wind_on = rng.uniform(0.03, 0.12) * buzz(curve(0.25, 300, 420, 380), 1.0) * arc(0.25, 0.5)
    return mix((0.02, mirror), (0.02 + gap, shutter), (0.05 + gap, wind_on), (0.42, np.zeros(800)))

def chopping(rng):
    board, blade = rng.uniform(180, 380), rng.uniform(2000, 3500)
    def cut():
        crunch = 0.3 * noise(rng, 0.03, 1500, 6000) * arc(0.03)
        return mix((0, crunch), (0.025, knock(rng, board, 0.018, 0.5, blade)))
    return repeat(rng, cut, rng.integers(6, 13), rng.uniform(0.14, 0.28), 0.12, 0.4)

def frying(rng):
    s = rng.uniform(2.5, 3.8)
    sizzle = noise(rng, s, rng.uniform(2500, 4000)) * (0.7 + 0.3 * wobble(rng, s, 25))
    spit = lambda: snap(rng, 0.005, 2500, 8000, 1e-3)
    return 0.5 * sizzle + grains(rng, s, rng.uniform(100, 220), spit, tail=1.8)

def vacuum_cleaner(rng):
    s, motor = rng.uniform(2.5, 3.8), rng.uniform(180, 320)
    spin = motor * curve(s, rng.choice((0.5, 1.0)), 1, 1, 1, 1, 1)  # sometimes we hear it start
    whine = 0.9 * buzz(spin, 0.6, count=16) + 0.5 * tone(6 * spin)
    return (whine + 0.9 * noise(rng, s, 250, 4500)) * held(s, 0.2)

def fan_hum(rng):
    s, blade = rng.uniform(2.5, 4.0), rng.uniform(45, 95)
    sway = 1 + 0.15 * tone(steady(s, rng.uniform(1, 3)))
    air = 0.4 * noise(rng, s, 60, rng.uniform(400, 900))
    return sway * (buzz(steady(s, blade), 1.2, count=8) + air)

def switch_click(rng):
    metal, gap = rng.uniform(1200, 2600), rng.uniform(0.008, 0.02)
    make, bounce = knock(rng, metal, 0.004, 1.0, 4500), 0.6 * knock(rng, metal * 0.7, 0.005)
    box = 0.5 * knock(rng, rng.uniform(250, 450), 0.01, 0)
    return mix((0.05, make), (0.05 + gap, bounce), (0.05, box), (0.4, np.zeros(800)))

def microphone_feedback(rng):
    s, pitch = rng.uniform(1.2, 2.6), rng.uniform(900, 3200)
    loop = np.minimum(np.exp(6 * (times(s) - rng.uniform(0.3, 0.7) * s)), 1)  # grows until it clips
    howl = tone(pitch * curve(s, 1, 1.002, 1.01)) + 0.25 * tone(steady(s, 1.51 * pitch))
    return np.tanh(2.5 * loop * howl) + 0.02 * noise(rng, s, 80, 3000) + 0.02 * tone(steady(s, 100))

# --- tools, engines, traffic ---------------------------------------------------------------------

def chainsaw(rng):
    s, top, muffler = rng.uniform(2.0, 3.5), rng.uniform(100, 180), rng.uniform(0.8, 1.3)
    throttle = curve(s, *rng.choice((0.3, 0.8, 1.0, 1.0), rng.integers(4, 9)))  # blips, long cuts
    pulse = buzz(top * (0.5 + 0.5 * throttle) * (1 + 0.04 * wobble(rng, s, 40)), 0.6, count=60)
    rasp = pulse + (0.2 + 0.3 * np.abs(pulse)) * throttle * noise(rng, s, 300, 6000)
    body = vowel(rasp, 350 * muffler, 1000 * muffler, 2300, 3800, width=0.35)
    return body * (0.3 + 0.7 * throttle)

def drill(rng):
    s, load = rng.uniform(1.4, 2.8), rng.uniform(0.75, 0.9)
    spin = rng.uniform(380, 620) * curve(s, 0.3, 1, 1, load, load, load * 0.97, 1, 0.4)
    bite = curve(s, 0, 0, 0.2, 1, 1, 1, 0.2, 0)
    motor = buzz(spin, 0.5, count=14) * (1 + 0.4 * bite * wobble(rng, s, 60))
    return (motor + 0.6 * bite * noise(rng, s, 1500, 6000)) * held(s, 0.08)

def sewing_machine(rng):
    s, stitch = rng.uniform(1.8, 3.0), rng.uniform(9, 17)
    def needle():
        up = 0.6 * knock(rng, 1100, 0.005, 1.0, 2500)
        return mix((0, knock(rng, 700, 0.006, 1.0, 3500)), (0.45 / stitch, up))
    motor = 0.18 * buzz(12 * stitch * curve(s, 0.6, 1, 1, 0.9), 0.8, count=20)
    return mix((0, repeat(rng, needle, int(s * stitch), 1 / stitch, 0.06, 0.15)), (0, motor))

def siren(rng):
    s, low, high = rng.uniform(3.0, 4.0), rng.uniform(500, 700), rng.uniform(1150, 1500)
    turn = rng.uniform(0.3, 0.7) * times(s) + rng.uniform()
    wail = low + (high - low) * (0.5 - 0.5 * np.cos(2 * np.pi * turn))
    two_tone = np.where(3 * turn % 1 < 0.5, low, 1.33 * low)
    horn = buzz(two_tone if rng.uniform() < 0.35 else wail, 0.9, odd=rng.uniform() < 0.5)
    return vowel(horn, 900, 1800, 3000, width=0.4) * held(s, 0.1)

def car_horn(rng):
    pitch, second = rng.uniform(330, 470), rng.uniform(1.18, 1.27)  # two horns, a third apart
    def honk():
        s = rng.uniform(0.4, 0.9)
        reeds = buzz(steady(s, pitch), 0.5) + buzz(steady(s, pitch * second), 0.5)
        return vowel(reeds, 500, 1200, 2500, 3800, width=0.3) * held(s, 0.015)
    return repeat(rng, honk, rng.integers(1, 4), rng.uniform(0.6, 1.0), 0.2, 0.1)

def reversing_beeps(rng):
    on = rng.uniform(0.38, 0.55)
    warn = beeps(rng.uniform(1000, 1350), on, on * rng.uniform(0.8, 1.1), rng.integers(3, 5), 1.0)
    motor = buzz(np.full(len(warn), rng.uniform(28, 45)), 0.5, count=14)
    return warn + 0.06 * motor

def car_alarm(rng):
    base, parts, at = rng.uniform(700, 1000), [], 0.0
    patterns = ((0.16, (1, 2.2), 0.02), (0.28, (2.2, 1), 0.02), (0.12, (1.9, 1.9), 0.1),
                (0.4, (1, 2.4, 1), 0.0))  # length, pitch line, gap
    for which in rng.permutation(4)[:rng.integers(2, 5)]:  # it walks through several signals
        s, line, gap = patterns[which]
        for _ in range(max(2, int(1.1 / s))):
            parts.append((at, buzz(base * curve(s, *line), 0.6, odd=True) * held(s, 0.005)))
            at += s + gap
    return band(mix(*parts), 600, 6000)

def tyre_skid(rng):
    s, pitch = rng.uniform(0.9, 1.8), rng.uniform(700, 1250)
    line = pitch * curve(s, 0.9, 1.05, 1, 1.02, 0.95, 0.8) * (1 + 0.04 * wobble(rng, s, 20))
    squeal = sum(gliding_noise(rng, line * k, 35 * k) / k ** 0.7 for k in (1, 2, 3))
    rubber = 0.5 * noise(rng, s, 400, 4500)
    shake = 1 + 0.3 * wobble(rng, s, 50)
    return (1.5 * squeal + rubber) * shake * curve(s, 0, 1, 1, 0.9, 0.8, 0)

def car_passby(rng):
    s = rng.uniform(3.0, 4.0)
    way = (times(s) / s - rng.uniform(0.4, 0.6)) * rng.uniform(5, 9)  # 0 where it is nearest
    near = 1 / (1 + way ** 2)
    motor = buzz(rng.uniform(70, 120) * (1 - 0.08 * np.tanh(way)), 1.0, count=20)  # Doppler shift
    tyres = noise(rng, s, 80, 1400) + 0.5 * near * noise(rng, s, 1400, 5000)
    return near * (tyres + 0.5 * motor)

def train(rng):
    s, pair = rng.uniform(3.0, 4.0), rng.uniform(0.55, 0.9)
    axles = lambda: mix(*((i * pair * 0.22, knock(rng, 160, 0.04, 1.0, 1500)) for i in range(2)))
    clack = repeat(rng, axles, int(s / pair), pair, 0.04, 0.3)
    roll = noise(rng, s, 40, 350) * (1 + 0.3 * wobble(rng, s, 4)) + 0.25 * noise(rng, s, 500, 3000)
    return mix((0, 1.3 * clack), (0, 0.6 * roll * held(s, 0.3)))

def engine_idle(rng):
    s, firing = rng.uniform(2.5, 3.8), rng.uniform(22, 42)
    line = firing * (1 + 0.04 * wobble(rng, s, 12))
    rough = 1 + 0.3 * tone(line / 4)  # one cylinder of four is weaker
    valves = np.maximum(tone(line), 0) ** 8 * noise(rng, s, 1500, 5000)
    block = band(buzz(line, 0.4, count=30), 30, rng.uniform(350, 700))
    return block * rough + 0.08 * valves + 0.1 * noise(rng, s, 40, 400)

def helicopter(rng):
    s, rotor = rng.uniform(2.8, 4.0), rng.uniform(10, 19)
    slap = np.maximum(tone(rotor * (1 + 0.02 * wobble(rng, s, 2))), 0) ** rng.uniform(3, 8)
    chop = slap * (noise(rng, s, 50, 300) + 0.4 * noise(rng, s, 300, 2500))
    turbine = 0.05 * tone(steady(s, rng.uniform(1500, 3500)))
    wash = rng.uniform(0.1, 0.5) * noise(rng, s, 40, 400) + 0.12 * noise(rng, s, 300, 5000)
    return chop + wash + turbine

# --- music ---------------------------------------------------------------------------------------

SCALE = 2 ** (np.array((0, 2, 4, 7, 9, 12, 14, 16)) / 12)  # pentatonic: any order is a tune

def piano(rng):
    root, k = rng.uniform(196, 330), np.arange(1, 9)
    def key():
        f = root * rng.choice(SCALE)
        strings = modes(f * k * np.sqrt(1 + 4e-4 * k ** 2), 0.5 / k ** 0.7, k ** -1.3)[:20_000]
        return mix((0, strings), (0, 0.2 * knock(rng, 110, 0.015, 0.3, 1500)))
    return repeat(rng, key, rng.integers(4, 8), rng.uniform(0.22, 0.5), 0.03, 0.4)

def guitar(rng):
    root, k = rng.uniform(98, 165), np.arange(1, 15)
    pluck = np.abs(np.sin(np.pi * k * rng.uniform(0.12, 0.25))) / k ** 0.7
    string = lambda f: modes(f * k, 0.45 / k ** 0.8, pluck)[:18_000]
    def strum():
        chord = root * rng.choice((1, 1.122, 1.335, 1.498)) * np.array((1, 1.5, 2, 2.52, 3))
        return mix(*((i * rng.uniform(0.012, 0.03), string(f)) for i, f in enumerate(chord)))
    return repeat(rng, strum, rng.integers(2, 6), rng.uniform(0.4, 0.7), 0.03, 0.3)

def drum_kit(rng):
    step, skin = rng.uniform(0.11, 0.17), rng.uniform(170, 230)
    kick = 1.4 * tone(curve(0.25, 130, 60, 48, 45)) * decay(0.25, 2e-3, 0.08)
    snare = mix((0, 0.35 * snap(rng, 0.2, 1000, 8000, 0.05)), (0, modes(skin, 0.035)))
    hat = 0.22 * snap(rng, 0.07, 5500, 8000, 0.015)
    hits = ((kick, (0, 3, 8, 11)), (snare, (4, 12)), (hat, range(0, 16, 2)))
    return mix(*((i * step, drum) for drum, when in hits for i in when))

def flute(rng):
    root, notes, at = rng.uniform(440, 700), [], 0.0
    for _ in range(rng.integers(3, 7)):
        s = rng.uniform(0.3, 0.7)
        vibrato = 1 + 0.012 * tone(steady(s, 5.2)) * curve(s, 0, 1, 1)
        line = root * rng.choice(SCALE[:6]) * vibrato
        air = 0.08 * gliding_noise(rng, line, 300) + 0.015 * noise(rng, s, 1500, 6000)
        notes.append((at, (buzz(line, 2.2, count=5) + air) * curve(s, 0, 1, 0.9, 0.9, 0.8, 0)))
        at += 0.97 * s
    return mix(*notes)

def church_bell(rng):
    partials = rng.uniform(220, 420) * np.array((0.5, 1, 1.19, 1.5, 2, 2.6, 3.01, 4.1))
    taus, gains = (1.6, 1.1, 0.9, 0.5, 0.7, 0.3, 0.25, 0.15), (0.5, 0.8, 0.8, 0.4, 1, 0.5, 0.4, 0.3)
    toll = lambda: mix((0, modes(partials, taus, gains)[:32_000]), (0, 0.4 * knock(rng, 900, 0.01)))
    return repeat(rng, toll, rng.integers(1, 4), rng.uniform(0.9, 1.3), 0.05, 0.2)

# --- the table -----------------------------------------------------------------------------------

EVENTS: tuple[Callable[[Rng], np.ndarray], ...] = (
    baby_cry, scream, sneeze, cough, groan, laughter, snoring, applause, footsteps, fall_down,
    brushing_teeth, thunder, strong_wind, hail, rain, rock_fall, water_drip, pouring_water,
    sea_waves, explosion, fire_crackling, dog_bark, cat_meow, rooster, crickets, bird_song, frog,
    door_bell, smoke_alarm, electric_buzz, gas_hiss, glass_break, door_knock, kettle_whistle,
    appliance_beep, typing, paper_crumple, clock_tick, camera_click, chopping, frying,
    vacuum_cleaner, fan_hum, switch_click, microphone_feedback, chainsaw, drill, sewing_machine,
    siren, car_horn, reversing_beeps, car_alarm, tyre_skid, car_passby, train, engine_idle,
    helicopter, piano, guitar, drum_kit, flute, church_bell,
)

def _finished(event: Callable[[Rng], np.ndarray], rng: Rng) -> np.ndarray:
    return finish(event(rng)[:LONGEST])


SOUNDS: dict[str, Callable[[Rng], np.ndarray]] = {e.__name__: partial(_finished, e) for e in EVENTS}


def make_sound(label: str, seed: int | Rng, randomise: bool = True,
               held_out: bool = False) -> np.ndarray:
    """Makes one sound event; the same label and seed give the same bytes (paper §3.2).

    Parameters
    ----------
    label : a key of `SOUNDS`.
    seed : a number >= 0, or a generator to go on drawing from.
    randomise : also vary speed, equaliser, room and level (see `waves.Variation`).
    held_out : take speed and room from the ranges that training never uses; needs `randomise`.

    Returns
    -------
    float32 [n], 16 kHz mono, peak at most 0.9, about 0.4-5 s long.

    Raises
    ------
    ValueError : unknown label, or `held_out` without `randomise`.
    """
    if label not in SOUNDS:
        raise ValueError(f"no sound is called {label!r}; known are: {', '.join(sorted(SOUNDS))}")
    if held_out and not randomise:
        raise ValueError("held_out=True needs randomise=True: it is the variation that is held out")
    if not isinstance(seed, Rng):
        seed = np.random.default_rng((zlib.crc32(label.encode()), seed))
    sound = SOUNDS[label](seed)
    return vary(sound, draw_variation(seed, held_out), seed) if randomise else sound
