"""Mean returns that IMPALA's authors published (Espeholt et al. 2018, arXiv 1802.01561)."""

from __future__ import annotations

# Table C.1, up to 30 no-ops, 200 episodes a game: game, multi-task agent, shallow experts, deep experts.
_ATARI = """
alien 2344.60 1536.05 15962.10
amidar 136.82 497.62 1554.79
assault 2116.32 12086.86 19148.47
asterix 2609.00 29692.50 300732.00
asteroids 2011.05 3508.10 108590.05
atlantis 460430.50 773355.50 849967.50
bank_heist 55.15 1200.35 1223.15
battle_zone 7705.00 13015.00 20885.00
beam_rider 698.36 8219.92 32463.47
berzerk 647.80 888.30 1852.70
bowling 31.06 35.73 59.92
boxing 96.63 96.30 99.96
breakout 35.67 640.43 787.34
centipede 4916.84 5528.13 11049.75
chopper_command 5036.00 5012.00 28255.00
crazy_climber 115384.00 136211.50 136950.00
defender 16667.50 58718.25 185203.00
demon_attack 10095.20 107264.73 132826.98
double_dunk -1.92 -0.35 -0.33
enduro 971.28 0.00 0.00
fishing_derby 35.27 32.08 44.85
freeway 21.41 0.00 0.00
frostbite 2744.15 269.65 317.75
gopher 913.50 1002.40 66782.30
gravitar 282.50 211.50 359.50
hero 18818.90 33853.15 33730.55
ice_hockey -13.55 -5.25 3.48
jamesbond 284.00 440.00 601.50
kangaroo 8240.50 47.00 1632.00
krull 10807.80 9247.60 8147.40
kung_fu_master 41905.00 42259.00 43375.50
montezuma_revenge 0.00 0.00 0.00
ms_pacman 3415.05 6501.71 7342.32
name_this_game 5719.30 6049.55 21537.20
phoenix 7486.50 33068.15 210996.45
pitfall -1.22 -11.14 -1.66
pong 8.58 20.40 20.98
private_eye 0.00 92.42 98.50
qbert 10717.38 18901.25 351200.12
riverraid 2850.15 17401.90 29608.05
road_runner 24435.50 37505.00 57121.00
robotank 9.94 2.30 12.96
seaquest 844.60 1716.90 1753.20
skiing -8988.00 -29975.00 -10180.38
solaris 1160.40 2368.40 2365.00
space_invaders 199.65 1726.28 43595.78
star_gunner 1855.50 69139.00 200625.00
surround -8.51 -8.13 7.56
tennis -8.12 -1.89 0.55
time_pilot 3747.50 6617.50 48481.50
tutankham 105.22 267.82 292.11
up_n_down 82155.30 273058.10 332546.75
venture 1.00 0.00 0.00
video_pinball 20125.14 228642.52 572898.27
wizard_of_wor 2106.00 4203.00 9157.50
yars_revenge 14739.41 80530.13 84231.14
zaxxon 6497.00 1148.50 32935.50
"""

# Table B.1, 500 episodes a level: level, experts, one agent of all levels. The rows are in the table's order
# and have the names of the authors' code; the table has small and large exchanged in the laser-tag rows.
_DMLAB = """
rooms_collect_good_objects_test 9.0 5.8
rooms_exploit_deferred_effects_test 15.6 11.0
rooms_select_nonmatching_object 7.3 26.1
rooms_watermaze 26.9 31.1
rooms_keys_doors_puzzle 28.0 24.3
language_select_described_object 324.6 593.1
language_select_located_object 189.0 301.7
language_execute_random_task -49.9 66.8
language_answer_quantitative_question 219.4 264.0
lasertag_one_opponent_small -0.2 0.3
lasertag_three_opponents_small -0.1 4.1
lasertag_one_opponent_large -0.1 2.5
lasertag_three_opponents_large 19.1 11.3
natlab_fixed_large_map 34.7 12.2
natlab_varying_map_regrowth 20.7 15.9
natlab_varying_map_randomized 36.1 29.0
skymaze_irreversible_path_hard 13.6 30.0
skymaze_irreversible_path_varied 45.1 53.6
psychlab_arbitrary_visuomotor_mapping 16.4 14.3
psychlab_continuous_recognition 29.9 29.9
psychlab_sequential_comparison 0.0 0.0
psychlab_visual_search 0.0 0.0
explore_object_locations_small 57.8 62.6
explore_object_locations_large 37.0 51.1
explore_obstructed_goals_small 135.2 188.8
explore_obstructed_goals_large 39.5 71.0
explore_goal_locations_small 209.4 252.5
explore_goal_locations_large 83.1 125.3
explore_object_rewards_few 39.8 43.2
explore_object_rewards_many 58.7 62.6
"""


def _columns(table: str, *names: str) -> dict[str, dict[str, float]]:
    rows = [line.split() for line in table.split("\n") if line]
    return {name: {row[0]: float(row[i]) for row in rows} for i, name in enumerate(names, start=1)}


ATARI57 = _columns(_ATARI, "multi-task", "shallow", "deep")
DMLAB30 = _columns(_DMLAB, "experts", "multi-task")
