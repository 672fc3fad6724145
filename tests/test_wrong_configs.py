"""Wrong settings of every program, each with the line it gets: the value, the constraint, the remedy; nothing is made.

A command line stands at the margin, the line that it gets below it, or behind it where that begins with its last word;
[...] is whatever comes between. Programs as they are called, in a process of their own, are the matter of test_program.
"""

import os
import re
import shlex
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from autodisp.config import predict
from autodisp.config.checks import nearest, nearest_setting, printable, shown
from autodisp.config.parsing import dotted
from autodisp.errors import InputError
from autodisp.prediction.outputs import CLASS_OUTPUTS, FLOW_OUTPUTS, OUTPUTS
from autodisp.tasks.registry import KITS
from tests.programs import composed

SEARCH = r"""
dataset=pairs dataset.root=.
    dataset=pairs: has no ground truth, which a search needs; take another dataset, or autodisp-train recipe=adapt
task.loss=photometric: must be ground_truth in a search; photometric is for autodisp-train
search.epochs=0: must be at least 1; 50 is usual
search.epochs=many: must be a whole number, such as 10
search.epochs=1.5: must be a whole number, such as 10
search.epochs=null: must be a whole number, such as 10
search.epochs=[]: must be a whole number, such as 10
search.epochs={a:1}
    search.epochs={'a': 1}: must be a whole number, such as 10, not a section with keys
search.epochs=true: must be a whole number, such as 10
search.epochs=10000000: must be at most 1000000; 50 is usual
search.batch_size=-1: must be at least 1; 64 is usual
search.batch_size=201: the smaller part of the training split has 200 [...] batch_size=200 or smaller, or more data
search.steps_per_epoch=0: must be at least 1, or null for all
search.steps_per_epoch=100000000000: must be at most 4294967295, or null
search.validation_batches=-1: must be at least 1, or null for all
search.warmup_epochs=20: must be below search.epochs=20, or no alpha ever moves
search.drop_path=1.0: must be at least 0 and below 1; 0 is none
search.drop_path=nan: must be at least 0 and below 1; 0 is none
search.precision=float8: must be one of float32, bfloat16, float16; did you mean 'float32'?
search.precision='': must be one of float32, bfloat16, float16
search=3: must be a section with keys, such as search.KEY=VALUE; see --help
optimizer.weights=null: must be a section with keys, such as optimizer.weights.KEY=VALUE
seed=-1: must be at least 0 and below 2^32; 0 is usual
seed=4294967296: must be at least 0 and below 2^32; 0 is usual
"seed='zwölf'"
    seed=zwölf: must be a whole number, such as 10
plan=maybe: must be true or false
plan=2: must be true or false
optimizer.weights.learning_rate=nan: must be at least 0 and finite; 0.025 is usual
optimizer.weights.learning_rate=-0.1: must be at least 0 and finite; 0.025 is usual
optimizer.weights.learning_rate=1e400
    optimizer.weights.learning_rate=inf: must be at least 0 and finite; 0.025 is usual
optimizer.weights.min_learning_rate=1.0: must be at most learning_rate=0.008, where the schedule begins
optimizer.weights.momentum=1.0: must be at least 0 and below 1; 0.9 is usual
optimizer.weights.clip=0.0: must be above 0 (inf for no clipping); 5 is usual
optimizer.weights.name=adma: must be one of sgd, adamw; did you mean 'adamw'?
optimizer.alphas.betas=[0.5]: must be two numbers, each at least 0 and below 1, such as [0.5,0.999]
optimizer.alphas.betas=[0.5,1]
    optimizer.alphas.betas=[0.5, 1.0]: must be two numbers, each at least 0 and below 1, such as [0.5,0.999]
optimizer.alphas.betas=[0.5, x]: must be a list of numbers, such as [0.5,2]
optimizer.alphas.betas=0.5: must be a list of numbers, such as [0.5,2]
optimizer.alphas.order=exact
    optimizer.alphas.order=exact unrolls a step of SGD, but [...] take order=first or weights.name=sgd
optimizer.alphas.first_order_epochs=21: must be at most 20, the epochs after the warm-up; 0 is usual
curvature.every=0: must be at least 1; 2 is usual
curvature.tolerance=1.0: must be between 0 and 1; 0.001 is usual
curvature.method=lancosz: must be one of lanczos, hessian; did you mean 'lanczos'?
curvature.with_weight_decay=yess: must be true or false
regularization=es regularization.window=4: must be odd, since an average belongs to its middle epoch; 3 or 5 are usual
regularization=es regularization.window=0: must be at least 1; 5 is usual
regularization=es regularization.delta=0: must be at least 1, or null for the rule's own
regularization=es regularization.factor=inf: must be a growth above 1, or null for the rule's own
regularization=ada regularization.raise_by=1.0: must be a growth above 1; 10 is usual
regularization=ada regularization.cap=nan: must be a weight decay above 0; 0.03 is usual
regularization=ada regularization.cap=0.0001: must be above optimizer.weights.weight_decay=0.0003, or it is never raised
regularization=ada optimizer.weights.weight_decay=0
    regularization=ada multiplies optimizer.weights.weight_decay, which [...] from 3e-4, or use regularization=es
regularization=ada optimizer.weights.decay=decoupled
    regularization=ada raises the L2 term of the training loss, [...] decay=l2 or null, or optimizer=sgd
optimizer=sgd optimizer.weights.decay=decoupled: is of optimizer.weights.name=adamw, but it is sgd: take l2 or null
optimizer.weights.decay=L2: must be one of l2, decoupled; did you mean 'l2'?
augmentation.scale=5.0: must be at least 0 and at most 4; 0 is none, 1 the default, 2 strong
augmentation.scale=inf: must be at least 0 and at most 4; 0 is none, 1 the default, 2 strong
augmentation.cutout=16: must be 0 or null for task=disparity, which has no cut-out
task=classification augmentation.cutout=-1
    augmentation.cutout=-1: must be at least 0 and at most 32, the side of the images; 0 is none, 16 is usual
task=classification augmentation.cutout=16 augmentation.scale=0
    augmentation.cutout=16: must be 0 or null with augmentation.scale=0, which is no augmentation
dataset.length=0: must be at least 1; 400 is usual
dataset.height=8: must be at least 16; 192 is usual
dataset.width=100000: must be at most 8192; 384 is usual
dataset.max_disparity=384: must be below dataset.width=384
dataset.max_disparity=0: must be at least 4; 96 is usual
dataset.crop=[64]: must be [height, width], each at least 32, or null
dataset.crop=[16, 64]: must be [height, width], each at least 32, or null
dataset.crop=[200, 100]: must be no larger than the images, 192x384
dataset.crop=[64.5, 64]: must be a list of whole numbers, such as [1,2], or null
dataset.crop=5: must be a list of whole numbers, such as [1,2], or null
dataset.limit=0: must be at least 1, or null for all
dataset.cache=often: must be true or false
dataset=flyingthings3d dataset.subsets=[]: must be a list of A, B, C, each at most once
dataset=flyingthings3d dataset.subsets=[A, A]: must be a list of A, B, C, each at most once
dataset=flyingthings3d dataset.subsets=[D]: must be a list of A, B, C, each at most once
dataset=flyingthings3d dataset.layout=ful: must be one of auto, full, subset; did you mean 'full'?
dataset=flyingthings3d "dataset.official_exclusions=''"
    dataset.official_exclusions='': must be a path to the official list of frames to leave out, or null
dataset=flyingthings3d
    dataset.root is not set: it must be the folder that holds [...] task=disparity dataset=shapes3d needs no data
dataset=sintel dataset.root=nowhere
    dataset.root=nowhere: there is no such folder; looked for [...] task=disparity dataset=shapes3d needs no data
dataset=sintel dataset.root=file
    dataset.root=file: there is no such folder; looked for [...] it; task=disparity dataset=shapes3d needs no data
dataset=sintel dataset.render_pass=cleanpass: must be one of clean, final; did you mean 'clean'?
dataset=middlebury2006 dataset.size=quarter: must be one of full, half, third
task=classification dataset.flip=perhaps: must be true or false
task=classification dataset=sintel
    dataset=sintel does not fit task=classification: take dataset=cifar10 or dataset=cifar100 or dataset=svhn
dataset=svhn
    dataset=svhn does not fit task=disparity: take dataset=shapes3d or [...] or dataset=own
space=s2
    space=s2 does not fit task=disparity: take space=autodispnet or space=tiny81_disparity
task=classification space=autodispnet
    space=autodispnet does not fit task=classification: take space=s1 or [...] or space=darts or space=tiny81
network=classification
    network=classification does not fit task=disparity: take network=disparity
space.file=nowhere.json: cannot be read as the JSON of a search space [...] SearchSpace.to_json shows the form
space.file=folder: cannot be read as the JSON of a search space [...] SearchSpace.to_json shows the form
space.file='': must be a path to the JSON of a search space, or null for a named one
space.name=s9: must be one of s1, s2, s3, s4, darts, tiny81, autodispnet, tiny81_disparity; did you mean 's4'?
network.channels=0: must be at least 1; 24 is usual
network.channels=100000: must be at most 1024; 24 is usual
network.stem_scale=0.1: must be at least 1 / channels; 2 is usual
network.encoder_cells=3: must be even, as cells come in pairs; 6 is usual
network.encoder_cells=12 network.decoder_cells=1 search.batch_size=1
    search.batch_size=1: leaves batch normalisation one sample of [...] or more, or larger images, or fewer cells
network.decoder_cells=5: must be at most 2, the last of which is at 1/4
network.head=matchin: must be one of regression, matching, refined; did you mean 'matching'?
network.head=regression network.aggregation=8: must be 0 for network.head=regression, which has no volume
network.head=matching network.aggregation=8 network.groups=4
    network.groups=4: must be 0 without network.head=refined and network.aggregation, which read them
network.refinement=1: must be at least 2; 16 is usual
dataset.nearest=0.0: must be above 0 and at most 1; 1 is usual
dataset.objects=[5, 2]: must be [least, largest], 0 <= least <= largest <= 200
dataset.ground=2.0: must be a share, 0 to 1; 0 is usual
dataset.camera=5.0: must be at least 0 and at most 4; 0 is usual
network.frozen_stages=1: must be below network.stages=1: the last one is always trained; 0 freezes none
network.to_full_resolution=true: must be false for a network without refinement stages (network.stages=1)
network.stages=2 network.to_full_resolution=true: must be false for [...] which do not reach 1/4; take 2 of them
task.volume_weight=-1.0: must be at least 0 and finite, or null for 1
task.robust_scale=0.0: must be above 0 and finite, or null for the error itself
network.head=regression task.volume_weight=1
    task.volume_weight=1.0: weighs the volume of network.head=matching, [...] it null, or take the other head
task=classification network.layers=2: must be at least 3; 8 is usual
run.device=cdua: must be one of auto, cpu, cuda, cuda:N; did you mean 'cuda'?
run.graphs=yes: must be one of auto, true, false
run.graphs=1: must be one of auto, true, false
run.workers=-1: must be at least 0; 1 is usual
run.workers=1000: must be at most 256; 1 is usual
run.threads=0: must be at least 1 and at most 1024, or null for all cores
run.folder='': must be a path to a folder that the run makes, such as runs/first
"run.folder='aNULb'"
    run.folder=a\x00b: must be free of control characters, a path to a folder that the run makes, such as runs/first
run.folder=LONG
    run.folder=SHOWN...: must be of names of at most 255 bytes, a path to [...] the run makes, such as runs/first
run.folder=folder: is not empty, and a run overwrites nothing; take another folder
run.folder=file/run: cannot be used (Not a directory); take another one
run.folder=true: must be text, in quotes where it looks like something else
dataset.name=sintel: the other settings are those of another dataset; write dataset=sintel, which brings its own
search.epochs=3 search.epochs=0: must be at least 1; 50 is usual
search.epochs=${nothing}: Interpolation key 'nothing' not found; [...] or ${KEY} with a setting that there is
search.epochs=${search.epochs}: Recursive interpolation detected; [...] or ${KEY} with a setting that there is
optimizer.alphas.order=second: must be one of first, exact, finite_difference
relaxation=uniform
    selection=argmax takes the operations of largest alpha, but [...] moves no alphas: take selection=ranking
relaxation=uniform selection=ranking regularization=ada
    regularization=ada watches the curvature in the alphas, but [...] moves none: take regularization=none
relaxation.name=concrete: must be one of softmax, dirichlet [...] uniform, own
alpha_penalty=beta relaxation=dirichlet
    alpha_penalty=beta bounds what a softmax is taken of, but [...] or alpha_penalty=none
alpha_penalty=beta relaxation=perturbed relaxation.base=dirichlet
    alpha_penalty=beta bounds what a softmax is taken of, but [...] or alpha_penalty=none
cost_penalty=latency
    cost_penalty.target=null: cost_penalty=latency needs one; plan=true [...] prints the costs of the space
cost_penalty=macs cost_penalty.target=0.0: must be above 0 and finite, or null with plan=true
cost_penalty=macs cost_penalty.target=5e8 cost_penalty.weight=-1.0: must be at least 0 and finite; 1 is usual
cost_penalty=macs cost_penalty.target=5e8 cost_penalty.size=[64]
    cost_penalty.size=[64]: must be [height, width], each at least 1, or null for that of a sample
cost_penalty=macs cost_penalty.target=5e8 cost_penalty.save=costs.json
    cost_penalty.save=costs.json: needs plan=true; a search writes costs.json to its folder
cost_penalty=macs cost_penalty.table=a.json cost_penalty.save=costs.json plan=true
    cost_penalty.save=costs.json: would copy cost_penalty.table=a.json; leave out one
cost_penalty=macs cost_penalty.target=5e8 relaxation=frozen selection=perturbation
    cost_penalty=macs is a term of the alphas' loss, but relaxation=frozen moves none: take cost_penalty=none
relaxation=perturbed relaxation.attack=adversarial search.precision=float16
    search.precision=float16: the ascent of relaxation.attack=adversarial has no [...] bfloat16 or float32
relaxation=perturbed relaxation.base=gumbel: must be one of softmax, dirichlet, partial
relaxation=partial relaxation.share=3: must divide network.channels=4, of which widths are multiples
relaxation=uniform selection=ranking skip=auxiliary
    skip=auxiliary keeps skips from gathering large alphas, but relaxation=uniform moves none: take skip=none
relaxation=frozen
    selection=argmax takes the operations of largest alpha, but [...] moves no alphas: take selection=perturbation
relaxation=uniform selection=perturbation
    selection=perturbation removes operations from a mixture, [...] take relaxation=frozen, or selection=ranking
selection=perturbation regularization=es
    regularization=es returns an earlier epoch, but selection=perturbation [...] selection=argmax or regularization=none
relaxation=own
    relaxation.factory=null: must be a file and a class in it, such as [...] sharpened.py:Sharpened
selection=ranking regularization=es
    regularization=es returns an earlier epoch, but [...] selection=argmax or regularization=none
selection=ranking selection.finalists=1001: must be at most samples=1000
network.stages=2 network.frozen_stages=1: must be 0: a search has no trained stages to freeze
run.verbosity=loud: must be one of quiet, normal, verbose
task=segmentation dataset=shapes3d
    dataset=shapes3d does not fit task=segmentation: take [...] dataset=voc or dataset=cityscapes or dataset=folders
task=segmentation dataset=folders
    dataset.root is not set: it must be the folder that holds images. [...] dataset=shapes3d_classes needs no data
task=segmentation dataset=voc
    dataset.root is not set: it must be the folder that holds VOC [...] dataset=shapes3d_classes needs no data
task=segmentation dataset=cityscapes dataset.root=nowhere
    dataset.root=nowhere: there is no such folder; looked for [...] dataset=shapes3d_classes needs no data
task=segmentation dataset=folders dataset.classes=1
    dataset.classes=1: must be at least 2, or null for the largest class of the masks, plus 1
task=segmentation dataset=folders dataset.classes=256: must be at most 255, or null
task=segmentation network.encoder_cells=2: must be odd, as cells start and end with a reduction; 5 is usual
task=segmentation network.decoder_cells=3: must be at most 2, the last of which is at 1/4
task=segmentation network.stem_scale=0.01: must be at least 1 / channels; 1 is usual
task=segmentation dataset.objects=[5, 2]: must be [least, largest], 0 <= least <= largest <= 200
task=segmentation dataset.crop=[200, 300]: must be no larger than the images, 96x192
task=segmentation space=s1
    space=s1 does not fit task=segmentation: take space=autodispnet or space=tiny81_disparity
task=segmentation network=disparity_small
    network=disparity does not fit task=segmentation: take network=segmentation
task=segmentation augmentation.cutout=8: must be 0 or null for task=segmentation, which has no cut-out
"""
TRAIN = r"""
dataset=pairs dataset.root=.
    dataset=pairs: has no ground truth, which this training needs; take another dataset, or autodisp-train recipe=adapt
recipe=adapt
    dataset.root is not set: it must be a folder with both views [...] two folders or quoted patterns
recipe=adapt dataset.root=nowhere
    dataset=pairs: nowhere: there is no such file or folder; a pattern has a *, ? or [...] and stands in quotes
recipe=adapt dataset.root=folder
    dataset=pairs: folder: no image [...] or name left and right by two patterns
recipe=adapt dataset.root=a dataset.left=b: must be null with dataset.root=a
recipe=adapt dataset.right=b
    dataset.left=null: must be given along with the other views
recipe=adapt dataset=shapes3d task.teacher_weight=-1.0: must be at least 0 and finite, or null for 0.3
task.smoothness_weight=0.1: must be null without task.loss=photometric
training.freeze_norm=true: must be false without init, whose running statistics it keeps
task.loss=photo: must be one of ground_truth, photometric; did you mean 'photometric'?
training.steps=0: must be at least 1; 10000 is usual
training.batch_size=401: there are 400 training samples; take training.batch_size=400 or smaller, or more data
network=disparity dataset.crop=[64,64] dataset.max_disparity=16 training.batch_size=1
    training.batch_size=1: leaves batch normalisation one sample of 64x64 [...] larger images, or fewer cells
training.average=1.0: must be between 0 and 1, such as 0.999, or null for none
training.level_weights=[[1]]
    training.level_steps=[]: must be as many as training.level_weights has lists, 1, such as [0,5000] for two
training.level_weights=[[-1]] training.level_steps=[0]
    training.level_weights=[[-1]]: must be lists of weights of at least [...] of each above 0, such as [[0.5,1]]
training.level_weights=[1]: must be a list of lists of numbers, such as [[0.5,1]]
training.level_weights=[[1]] training.level_steps=[5]: must be ascending from 0, such as [0,5000]
task=classification training.level_weights=[[1]] training.level_steps=[0]
    training.level_weights=[[1.0]]: are of a disparity [...] levels, but task=classification: leave them empty
optimizer.learning_rate=0.0: must be above 0 and finite; 0.001 is usual
optimizer.schedule=milestones
    optimizer.milestones=[]: must be a list of steps for schedule=milestones, such as [6000,8000]
optimizer.schedule=milestones optimizer.milestones=[-5, 5]: must be ascending steps above 0, such as [6000,8000]
optimizer.milestones=[100]: belong to schedule=milestones, but [...] leave them empty, or take that schedule
optimizer.schedule=constant optimizer.min_learning_rate=0.001
    optimizer.min_learning_rate=0.001: is where schedule=cosine ends, but schedule=constant: leave it 0
optimizer.warmup_steps=-1: must be at least 0; 0 is usual
optimizer.factor=inf: must be above 0 and finite; 0.5 is usual
validation.every=0: must be at least 1; 500 is usual
validation.samples=0: must be at least 1, or null for all
validation.fraction=1.0: must be between 0 and 1, or null for the dataset's own test split
seed=2147483647: is that of the held-out pairs of shapes3d; take another one
genotype=null: must be a name of the zoo, a genotype.json of a search, or 'designed'
genotype=autodispnett: no such file, and the zoo has autodispnet, [...] darts_v2; did you mean 'autodispnet'?
genotype=nowhere/genotype.json: no such file, [...] of these, SPACE:INDEX, or a genotype.json of a search
genotype=darts_v2: has the cells normal, reduce, but task=disparity needs normal, reduce, [...] or the other task
genotype=random:s9: no such space; there are s1, s2, s3, s4, darts, [...] did you mean 'random:s4'?
space_file=nowhere.json: cannot be read as the JSON of a search space [...] SearchSpace.to_json shows the form
parameters=0: must be at least 1 and at most 1000000000, or null for as they are
parameters=1000000000000: must be at least 1 and at most 1000000000, or null for as they are
network=disparity_tiny parameters=5
    parameters=5: the nearest that this network can have is 90240, at [...] take that number, or another network
init=nowhere.safetensors: no such file; autodisp-train writes best.safetensors into its run folder
init=shiped: no such file; autodisp-train writes best.safetensors into its run folder; did you mean 'shipped'?
init=file: no readable safetensors (Error while deserializing header: [...] is it cut off, or another format?
recipe=finetune
    init=null: must be a model file such as best.safetensors, or shipped, since network=from_checkpoint takes it
recipe=finetune init=shipped genotype=autodispnet
    genotype=autodispnet: network=from_checkpoint takes the cells of init=shipped: leave genotype null
network.stages=2 network.frozen_stages=1
    network.frozen_stages=1: freezes stages that were trained before: [...] contains them as init=best.safetensors
run.device=gpu: must be one of auto, cpu, cuda, cuda:N; did you mean 'cpu'?
training.drop_path=1.0: must be at least 0 and below 1; 0 is none
training.precision=fp16: must be one of float32, bfloat16, float16; did you mean 'float16'?
training.level_weights=[[x]] training.level_steps=[0]
    training.level_weights=[[x]]: must be lists of weights of at [...] last one of each above 0, such as [[0.5,1]]
training.level_weights=[[1,0]] training.level_steps=[0]
    training.level_weights=[[1, 0]]: must be lists of weights of [...] last one of each above 0, such as [[0.5,1]]
training.level_weights=[[]] training.level_steps=[0]
    training.level_weights=[[]]: must be lists of weights of at [...] last one of each above 0, such as [[0.5,1]]
training.level_weights=[[1],[1]] training.level_steps=[0, 0]: must be ascending from 0, such as [0,5000]
optimizer.name=adma: must be one of sgd, adam, adamw; did you mean 'adam'?
optimizer.momentum=1.0: must be at least 0 and below 1; 0.9 is usual
optimizer.clip=0.0: must be above 0 (inf for no clipping); 5 is usual
optimizer.min_learning_rate=1.0: must be at most learning_rate=0.002, where the schedule begins
optimizer.schedule=step: must be one of cosine, milestones, constant
optimizer.schedule=milestones optimizer.milestones=[5, 5]: must be ascending steps above 0, such as [6000,8000]
validation.batch_size=0: must be at least 1; 1 is usual
recipe=finetune init=a parameters=5: must be null with network=from_checkpoint, whose model determines it
genotype=tiny81_disparity:81: space 'tiny81_disparity' has the genotypes 0 to 80
genotype=random:s2: has the cells normal, reduce, but [...] cells of such a search, or the other task
network.stages=2 network.frozen_stages=2: must be below network.stages=2: the last one is always trained; 0 freezes none
network=autodispnet_small task.volume_weight=2.0: weighs the volume of [...] none: leave it null, or take the other head
dataset=flyingthings3d dataset.root=/nowhere: there is no such folder; looked for [...] dataset=shapes3d needs no data
run.folder=folder: is not empty, and a run overwrites nothing; take another folder
task=segmentation genotype=designed: is for task=disparity; take a genotype for segmentation
task=segmentation genotype=darts_v2
    genotype=darts_v2: has the cells normal, reduce, but [...] take cells of such a search, or the other task
task=segmentation network=disparity_found
    network=disparity does not fit task=segmentation: take network=segmentation
"""
EVALUATE = r"""
checkpoint=a.onnx run.precision=bfloat16: must be float32 for checkpoint=a.onnx, which has a precision of its own
baseline=sgbm densities=[0]
    densities=[0.0]: must be percentages above 0 and at most 100, such as [95,80]
baseline=sgbm sgbm.mode=hh4: must be one of hh, sgbm, 3way; did you mean 'hh'?
baseline=sgbm sgbm.block_size=4: must be one of 1, 3, 5, 7; 5 is usual
baseline=sgbm sgbm.penalty=3.5: must be above 0 and at most 3; 3 is usual
baseline=constant sgbm.penalty=1.0: must be 3.0 without baseline=sgbm
baseline=sgbm dataset=pairs dataset.root=.
    dataset=pairs: has no ground truth, which an evaluation needs; [...] or autodisp-train recipe=adapt
NOTHING
    checkpoint=null and baseline=null: give checkpoint=best.safetensors, [...] or a checkpoint and a baseline
checkpoint=nowhere.safetensors: no such file; autodisp-train writes best.safetensors into its run folder
checkpoint=folder: is a folder; name a file in it, such as folder/best.safetensors
checkpoint='': must be a path to a model file such as best.safetensors, or shipped
baseline=sgmb: must be one of sgbm, constant; did you mean 'sgbm'?
baseline=sgbm ranges=[10,5]
    ranges=[10.0, 5.0]: must be ascending disparities above 0, such as [10,40]
baseline=sgbm ranges=[nan]: must be ascending disparities above 0, such as [10,40]
baseline=sgbm ranges=null: must be a list of numbers, such as [0.5,2]
baseline=sgbm batch_size=0: must be at least 1
baseline=sgbm split=val: must be one of train, test
baseline=sgbm dataset=sintel split=test dataset.root=folder
    split=test: dataset=sintel has ground truth for training only; take split=train
baseline=sgbm dataset=cifar10
    baseline=sgbm: is for disparity, but dataset=cifar10 is not; leave it [...] or dataset=own
baseline=sgbm dataset=sintel dataset.max_disparity=4096: must be at most 2032 for baseline=sgbm
baseline=sgbm run.device=gpu: must be one of auto, cpu, cuda, cuda:N; did you mean 'cpu'?
baseline=sgbm run.threads=0: must be at least 1 and at most 1024, or null for all cores
baseline=sgbm out='': must be a path to a folder that the evaluation makes, such as runs/metrics
baseline=sgbm out=folder: is not empty, and a run overwrites nothing; take another folder
baseline=sgbm pictures=101: must be 0 to 100
baseline=sgbm correction=residual: must be null without a checkpoint for disparity
checkpoint=shipped dataset=cifar10 correction=fusion: must be null without a checkpoint for disparity
checkpoint=shipped correction=sgbm: must be one of residual, fusion
checkpoint=shipped dataset=cifar10 pictures=3: shows disparities, but dataset=cifar10 has none; leave it at 0
dataset=voc baseline=sgbm: is for disparity, but dataset=voc is not; [...] dataset=own
dataset=folders baseline=constant split=test: dataset=folders has ground truth for training only; take split=train
dataset=shapes3d_classes checkpoint=shipped
    checkpoint=shipped: is of another task than dataset=shapes3d_classes; take a dataset of its own task
"""
PREDICT = r"""
left=a.png checkpoint=a.ONNX run.precision=bfloat16
    run.precision=bfloat16: must be float32 for checkpoint=a.ONNX, which has a precision of its own
left=a.png run.precision=half: must be one of float32, bfloat16, float16
left=a.png unknown=1.5: must be 0 to 1, or null for the point cloud's own
NOTHING
    left=null: must be an image, a folder, or a quoted pattern such as 'left/*.png'
left='': must be a path to an image, a folder, or a quoted pattern such as 'left/*.png'
left=nowhere: there is no such file or folder; a pattern has a *, ? or [...] and stands in quotes
left=file
    left=file is a file and right is not set: name the right view too, or one folder of both
left=[a, b]: must be text, in quotes where it looks like something else, or null
left=folder out='': must be a path to a folder for the predictions, such as predictions
left=folder outputs=[]: must be some of pfm, png16, colour, [...] index, overlay, flo, or null for the usual ones
left=folder outputs=[pgm]
    outputs=pgm: must be one of pfm, png16, colour, depth, ply, confidence, index, overlay, flo; did you mean 'pfm'?
left=folder outputs=pfm: must be a list of words, such as [a,b], or null
left=folder outputs=[ply]: must be without ply, or with focal and baseline
left=folder focal=500
    baseline=null: must be given along with focal=500.0, such as baseline=0.54
left=folder focal=-1 baseline=1
    focal=-1.0: must be above 0 (focal in pixels, baseline in metres)
left=folder focal=500 baseline=1 outputs=[pfm]
    focal=500.0: must be null for outputs=[pfm]; or add depth or ply
left=folder doffs=nan: must be a number of pixels; 0 is usual
left=folder centre=[1,2]
    centre=[1.0, 2.0]: must be null without focal and baseline
left=folder focal=500 baseline=1 centre=[1]
    centre=[1.0]: must be [x, y] in pixels, or null for the middle
left=folder max_depth=5.0: must be null without the output ply; or give focal and baseline
left=folder focal=500 baseline=1 max_depth=nan: must be above 0 metres, or null for no limit
left=folder colour_range=[5,1]
    colour_range=[5.0, 1.0]: must be [low, high] in pixels, low below high, or null for each image's own
left=folder overwrite=si: must be true or false
left=folder run.device=cudaa: must be one of auto, cpu, cuda, cuda:N; did you mean 'cuda'?
left=folder: no image (.png, .jpg, .jpeg, .webp, .ppm, .pgm, .pnm, [...] name left and right by two patterns
left=file right=folder
    left=file is a file but right=folder is not: name two files, two folders or two patterns
left=folder baseline=0.5
    focal=null: must be given along with baseline=0.5, such as focal=721.5
left=folder focal=wide baseline=1
    focal=wide: must be a number, such as 0.5, or null
left=folder doffs=3.0: must be 0 unless focal and baseline are given
left=folder colour_range=[1]
    colour_range=[1.0]: must be [low, high] in pixels, low below high, or null for each image's own
left=folder colour_range=[0,nan]
    colour_range=[0.0, nan]: must be [low, high] in pixels, low below high, or null for each image's own
left=folder colour_range=[0,5] outputs=[pfm]
    colour_range=[0.0, 5.0]: must be null without the output colour; or add it
"""
EXPORT = r"""
NOTHING
    nothing to export: give one of run= (the folder of a search), [...] (a file with cells, or a name of the zoo)
run=nowhere: no such folder; autodisp-search makes one and names it when it starts
run=folder: holds neither genotype.json nor genotypes/epoch_*.json; [...] of a search after its first epoch
checkpoint=nowhere.safetensors: no such file; autodisp-train writes best.safetensors into its run folder
genotype=dartsv2: no such file, and the zoo has autodispnet, darts_v1, darts_v2; did you mean 'darts_v2'?
genotype=darts_v2 run=folder: excludes genotype=; give one of run, genotype
genotype=darts_v2 format=onnx: must be null with genotype=: it is of a checkpoint's network
checkpoint=shipped format=onyx: must be one of onnx, pt2; did you mean 'onnx'?
checkpoint=shipped format=[]: must be one or both of onnx, pt2
checkpoint=shipped format={a:1}
    format={'a': 1}: must be a word or a list of them, not a section with keys
checkpoint=shipped space_file=a.json: must be null with checkpoint=, which holds its space
genotype=darts_v2 space_file=folder
    space_file=folder: cannot be read as the JSON of a search space [...] SearchSpace.to_json shows the form
genotype=darts_v2 out=file: cannot be used (File exists); take another folder
genotype=darts_v2 out='': must be a path to a folder, or null for one next to what is exported
genotype=darts_v2 overwrite=x: must be true or false
checkpoint=a genotype=b
    checkpoint=a: excludes genotype=; give one of checkpoint, genotype
checkpoint=a format=[onnx, onnx]: must be one or both of onnx, pt2
checkpoint=a format=[[onnx]]
    format=[onnx]: must be one of onnx, pt2; did you mean 'onnx'?
run=a format=onnx: must be null with run=: it is of a checkpoint's network
run=a threads=0: must be at least 1 and at most 1024, or null for all cores
"""
CHECK = r"""
dataset=sintel split=test
    split=test: dataset=sintel has ground truth for its training images only; take split=train
split=val: must be one of train, test
seed=-1: must be at least 0 and below 2^32; 0 is usual
run.workers=0: must be at least 1, or null for all cores
timeout=nan: must be a number of seconds above 0
dataset=sintel
    dataset.root is not set: it must be the folder that holds [...] task=disparity dataset=shapes3d needs no data
"""
STUDY = r"""
study=table study.space=tiny: must be one of s1, s2, s3, s4, darts, tiny81, autodispnet, tiny81_disparity
study=table study.space=s2
    space s2 does not fit task=disparity: take one of autodispnet, tiny81_disparity
study=table study.dataset=cifar10
    dataset cifar10 does not fit task=disparity: take one of [...] own
study=table study.samples=0: must be at least 1, or null for all
study=spaces study.policies=[none, esa]: must be one or more of none, es, ada, each once
study=regret
    study.table=null: must be a path to a table.json of study=table, or the name of a table in the package
study=regret study.table=none.json
    table none.json: cannot be read [...] of autodisp-study study=table, or tiny81_cifar10, tiny81_shapes3d
study=regret study.table=tiny81_shapes3d study.dataset=cifar10
    dataset cifar10 does not fit task=disparity: take one of [...] own
study=regret study.table=tiny81_shapes3d task=classification
    study.table=tiny81_shapes3d: is a table of task=disparity, but task is [...] set it to that one
study=rdarts study.key=foo.bar: must be a setting of autodisp-search, such as search.drop_path
study=regularization study.key=regularization: must be a setting of autodisp-search, such as search.drop_path
study=regret study.table=t "study.methods=['seed=3']"
    study.methods=[seed=3]: must be words such as relaxation=dirichlet, of settings that the study does not set itself
study=regret study.table=t "study.methods=['skip=auxiliary space=s2']"
    study.methods=[skip=auxiliary space=s2]: must be words [...] settings that the study does not set itself
study=spaces study.spaces=[s1, s1]: must be one or more of s1, s2, [...] tiny81_disparity, each once
study=spaces study.datasets=[shapes3d, shapes3d]: must be one or more of shapes3d, [...] own, each once
study=spaces study.datasets=[]: must be one or more of shapes3d, [...] own, each once
study=table study.samples=1 study.checked=5: must be at most study.samples=1
study=hyperparameters budget.steps=[]: must be one or more numbers of steps
study=drop study.runs=none: no such folder; name one that holds runs, or a pattern such as 'runs/**'
study=rdarts study.values=[1]
    study.values=[1.0]: must be two or more different finite numbers
study=rdarts study.values=[0,nan]
    study.values=[0.0, nan]: must be two or more different finite numbers
study=hyperparameters study.weight_decay=[1e-3,inf]
    study.weight_decay=[0.001, inf]: must be the lowest and the highest value, above 0 and finite
study=hyperparameters study.learning_rate=[1,0.1]
    study.learning_rate=[1.0, 0.1]: must be the lowest and the highest value, above 0 and finite
study=drop study.runs=[]: must be a folder or a pattern of folders, or a list of them
seeds=[]: must be one or more different whole numbers of at least 0, such as [0,1,2]
seeds=[1, 1]: must be one or more different whole numbers of at least 0, such as [0,1,2]
budget.train=[steps]: must be words such as training.steps=500, of settings that the study does not set itself
'budget.search=["space=s2"]'
    budget.search=[space=s2]: must be words such as training.steps=500, of settings that the study does not set itself
'budget.short=["hydra.run.dir=x"]'
    budget.short=[hydra.run.dir=x]: must be words such as training.steps=500, [...] that the study does not set itself
'budget.train=["+hydra/launcher=basic"]'
    budget.train=[+hydra/launcher=basic]: must be words such as [...] that the study does not set itself
study=regret study.table=t 'study.methods=["hydra.verbose=true"]'
    study.methods=[hydra.verbose=true]: must be words such as [...] that the study does not set itself
task.name=flows
    task=flows: must be one of disparity, classification, [...] did you mean 'flow'?
root=/data: dataset shapes3d is generated and has no folder; leave root null
cluster=address cluster.address=foo://x: must be that of a Dask scheduler, tcp://HOST:8786
cluster=address
    cluster.address=null: must be that of a Dask scheduler, tcp://HOST:8786
cluster.workers=0: must be at least 1, or null for as many as the cores allow
cluster=slurm cluster.options=[gpu]: must be KEY=VALUE, such as [walltime=24:00:00]
folder=damaged_study: its study.yaml cannot be read (TypeError); take another folder
folder=file: cannot be used (File exists); take another one
folder=folder: is not empty, and has no study; take another folder
+study.trials=3
    study.trials: no such setting; study has name, dataset, space, samples, checked
"""
REPORT = r"""
NOTHING
    nothing to report on: give run= (the folder of a run), runs= (a pattern [...] or study= (the folder of a study)
run=a runs=b
    run=a: excludes runs=; give one of them
run=a study=b
    run=a: excludes study=; give one of them
study=none: its study.yaml cannot be read (FileNotFoundError); name the folder of autodisp-study
run='': must be the folder of a run
runs=[]: must be a folder or a pattern of folders, or a list of them
runs=[1]: must be a folder or a pattern of folders, or a list of them
runs=a threads=0: must be at least 1 and at most 1024, or null for all cores
run=a animation=perhaps: must be true or false
run=nowhere: no such folder; a run makes one and names it when it starts
"runs='nowhere*'"
    runs=nowhere*: no run that can be read among 0 folders; name [...] above them, or a pattern such as 'runs/**'
"""
COMMANDS = r"""
search seed=zwölf
    'seed=zwölf' cannot be read as a setting; write group=choice or [...] beyond ASCII "section.key='a value'"
search datset=sintel
    datset: no such setting; did you mean dataset? `autodisp-search --cfg job` shows all of them
search dataset.root=/data
    dataset.root: the dataset that is chosen has no such setting; dataset=cifar10 and [...] or leave it out
search resume=run dataset.factory=rig.py:Rig
    dataset.factory: cannot be set with resume=, since a run keeps its config; leave it out
search resume=run search.epoch=3
    search.epoch: no such setting; did you mean search.epochs? `autodisp-search --cfg job` shows all of them
search regularization.window=3
    regularization.window: the regularization that is chosen has [...] take one of those, or leave it out
search dataset=SINTEL: no such choice; did you mean dataset=sintel? [...] sintel, sintel_flow, svhn, voc
search dataset=flyingthing3d: no such choice; did you mean [...] shapes3d_wide, sintel, sintel_flow, svhn, voc
search dataset=../../etc: no such choice; dataset is one of cifar10, [...] sintel, sintel_flow, svhn, voc
search dataset=3: a group needs one of its choices; `autodisp-search --help` lists them
search regularization=null: a group needs one of its choices; `autodisp-search --help` lists them
search epochs=3
    epochs: no such setting; did you mean search.epochs? `autodisp-search --cfg job` shows all of them
search learning_rate=0.1
    learning_rate: no such setting; did you mean [...] `autodisp-search --cfg job` shows all of them
search search.epoch=3
    search.epoch: no such setting; did you mean search.epochs? `autodisp-search --cfg job` shows all of them
search datset.root=x
    datset.root: no such setting; did you mean dataset.root? `autodisp-search --cfg job` shows all of them
search +search.epoch=3
    search.epoch: no such setting; did you mean 'epochs'? search has [...] precision, recompute
search +serach.epochs=3
    serach: no such section or setting; did you mean 'search'? there are [...] seed, selection, skip, space, task
search ++optimizer.weights.lerning_rate=1
    optimizer.weights.lerning_rate: no such setting; did you mean [...] weight_decay, decay, clip
search ~search.epoch: no such setting, so there is nothing to remove; `autodisp-search --cfg job` shows all of them
search +search.epochs=3
    +search.epochs: exists already, and + adds a new one; write search.epochs=VALUE without the +
search task=${nothing}: names no group that is chosen before; write the choice itself
search seed=1,2: more than one value, which is a run for each with -m in [...] and a text with commas as "seed='1,2'"
search 'seed=range(3)'
    seed=range(3): is a run for each value, which needs -m in front; write one value without it
search search=[]: is of another kind than the setting; `autodisp-search --cfg job` shows what search holds
search 'search.epochs 3'
    'search.epochs 3' cannot be read as a setting; write group=choice or [...] ASCII "section.key='a value'"
search =3
    '=3' cannot be read as a setting; write group=choice or [...] or letters beyond ASCII "section.key='a value'"
search --experiment smoke
    --experiment: no such option; settings are written without [...] and `autodisp-search --help` lists them
search --search.epochs=3: no such option; settings are written without [...] and `autodisp-search --help` lists them
evaluate -v checkpoint=shipped
    -v: is for autodisp-search and autodisp-train, which show their progress; leave it out
study -q: is for autodisp-search and autodisp-train and [...] autodisp-export, which show their progress; leave it out
predict left=folder --verbose: is for autodisp-search and autodisp-train, which show their progress; leave it out
evaluate task=segmentation checkpoint=shipped
    task=segmentation: is a choice of autodisp-search and autodisp-train; leave it out, or take task from own
train batch_size=8
    batch_size: no such setting; did you mean training.batch_size or [...] --cfg job` shows all of them
train recipe=finetuned: no such choice; did you mean recipe=finetune? [...] disparity_small, finetune
train resume=nowhere: its config.yaml cannot be read (FileNotFoundError); name the folder of a run
evaluate baseline=sgbm dataset.lenght=3
    dataset.lenght: no such setting; did you mean dataset.length? `autodisp-evaluate --cfg job` shows all of them
predict lft=folder
    lft: no such setting; did you mean left? `autodisp-predict --cfg job` shows all of them
export genotyp=darts_v2
    genotyp: no such setting; did you mean genotype? `autodisp-export --cfg job` shows all of them
search search.epochs
    'search.epochs' cannot be read as a setting [...] "section.key='a value'"
search seed=-1: must be at least 0 and below 2^32; 0 is usual
"""
TABLES = {
    "search": SEARCH, "train": TRAIN, "evaluate": EVALUATE, "predict": PREDICT, "export": EXPORT, "report": REPORT,
    "check": CHECK, "study": STUDY,
}  # fmt: skip
ENOUGH = {"evaluate": ["baseline=sgbm"], "predict": ["left=a"], "export": ["run=a"], "report": ["run=a"]}
"""What a program needs at least."""
BESIDES = {"search": ["run.folder=x"], "train": ["run.folder=x"], "evaluate": ["out=x"], "check": ["out=x"]}
"""Settings of a program that are drawn from the clock."""


def entries(table: str) -> Iterator[tuple[list[str], str]]:
    """The words of each command line, and the line that it gets."""
    for command, line in re.findall(r"^(\S.*)\n(?: +(.*)\n)?", table, re.MULTILINE):
        if not line:
            command, _, rest = command.partition(": ")
            (last,) = re.findall(r"(?:\S+=\[[^=]*|\S+)$", command)  # a list is shown with spaces
            line = f"{last}: {rest}"
            command = command.replace(", ", ",")
        words = [word.replace("NUL", "\0").replace("LONG", 300 * "a") for word in shlex.split(command)]
        yield [word for word in words if word != "NOTHING"], line.replace("SHOWN", 80 * "a")


SETTINGS = [(program, words, line) for program, table in TABLES.items() for words, line in entries(table)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the programs are called; whatever folder they would make is a failure at once, not a run."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "kept").touch()
    (tmp_path / "damaged_study").mkdir()
    (tmp_path / "damaged_study" / "study.yaml").write_text("- 1\n")
    (tmp_path / "file").write_text("text")
    make = os.mkdir

    def refuse(path: str, *args: Any, **kwargs: Any) -> None:
        if not os.path.exists(path) and not os.path.isfile(os.path.dirname(path)):
            pytest.fail(f"made {path}")
        make(path, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", refuse)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def left_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def assert_is(said: str, line: str) -> None:
    first, *others = line.split(" [...] ")
    assert said.startswith(first)
    assert said.endswith(others[0] if others else first)
    assert others or said == first
    assert "\n" not in said


@pytest.mark.parametrize(("program", "words", "line"), SETTINGS)
def test_a_wrong_setting_gets_its_line(
    program: str, words: list[str], line: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = composed(program, *BESIDES.get(program, []), *words)
    before = left_in(folder)
    with pytest.raises(InputError) as caught:
        getattr(import_module(f"autodisp.cli.{program}"), program)(tree, *([words] if program == "check" else []))
    assert_is(str(caught.value), line)
    assert capsys.readouterr() == ("", "")
    assert left_in(folder) == before


@pytest.mark.parametrize(("words", "line"), list(entries(COMMANDS)))
def test_what_hydra_refuses_gets_its_line(
    words: list[str], line: str, folder: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    before = left_in(folder)
    assert call(*words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.endswith("\n")
    assert_is(said.err[:-1], f"autodisp-{words[0]}: {line}")
    assert left_in(folder) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("program", ["search", "train", "evaluate", "predict"])
def test_a_device_that_is_not_there(
    program: str, folder: Path, call: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(program, *ENOUGH.get(program, []), "run.device=cuda") == 2
    says = f"autodisp-{program}: run.device=cuda: this machine has no usable GPU; take run.device=cpu or auto\n"
    assert capsys.readouterr().err == says


VARIANTS = [
    *((program, ENOUGH.get(program, [])) for program in TABLES),
    ("search", ["dataset=flyingthings3d", "regularization=ada", "optimizer=sgd"]),
    ("search", ["dataset=kitti2015"]),
    ("search", ["task=segmentation", "dataset=voc"]),
    ("train", ["task=classification"]),
    ("evaluate", ["baseline=sgbm", "dataset=middlebury2006"]),
]


def variant(program: str, overrides: list[str]) -> tuple[DictConfig, list[str]]:
    """The settings of a variant, and the keys of the sections in which it differs from the program's defaults."""
    tree, plain = (
        composed(program, *BESIDES.get(program, []), *words) for words in (overrides, ENOUGH.get(program, []))
    )
    changed = [name for name in tree if tree == plain or tree[name] != plain[name]]
    return tree, [key for key in dotted(tree) if key.partition(".")[0] in changed]


def parse(program: str, tree: DictConfig) -> None:
    import_module(f"autodisp.config.{program}").parse(tree)


def refused(program: str, tree: DictConfig, key: str, value: object) -> str:
    """The line that a setting of that value gets."""
    before = OmegaConf.select(tree, key)
    OmegaConf.update(tree, key, value, merge=False)
    with pytest.raises(InputError) as caught:
        parse(program, tree)
    OmegaConf.update(tree, key, before, merge=False)
    return str(caught.value)


@pytest.mark.parametrize(("program", "overrides"), VARIANTS, ids=str)
def test_no_setting_takes_a_section_or_a_list_of_sections(program: str, overrides: list[str]) -> None:
    tree, keys = variant(program, overrides)
    parse(program, tree)
    leaves = [key for key in keys if not isinstance(OmegaConf.select(tree, key), DictConfig)]
    assert len(leaves) >= 7
    for key in leaves:
        for value in ({"a": 1}, [{"a": 1}]):
            line = refused(program, tree, key, value)
            assert line.startswith((f"{key}=", f"{key.removesuffix('.name')}="))
            assert "must be" in line
            assert "\n" not in line


@pytest.mark.parametrize(("program", "overrides"), VARIANTS, ids=str)
@pytest.mark.parametrize("value", [float("nan"), -1e30, -1, "x", 10**20])
def test_no_number_takes_what_cannot_be_meant(program: str, overrides: list[str], value: float | str) -> None:
    tree, keys = variant(program, overrides)
    numbers = [key for key in keys if type(OmegaConf.select(tree, key)) in (int, float)]
    for key in numbers:
        is_float = (
            isinstance(OmegaConf.select(tree, key), float) or key == "timeout"
        )  # of which the YAML has a whole one
        as_large_as_you_like = is_float and value == 10**20
        if as_large_as_you_like or (key == "doffs" and value != "x" and value == value):
            continue
        line = refused(program, tree, key, value)
        assert key in line
        assert "\n" not in line


def test_the_outputs_are_those_that_can_be_written() -> None:
    assert set(predict.OUTPUTS) == {*OUTPUTS, *CLASS_OUTPUTS, *FLOW_OUTPUTS}
    for task, outputs in (("disparity", OUTPUTS), ("segmentation", CLASS_OUTPUTS), ("flow", FLOW_OUTPUTS)):
        prediction = KITS[task].prediction
        assert prediction is not None
        assert prediction.outputs is outputs


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), ("", "''"), ([1, None], "[1, null]"), ("a\nb", "a\\nb"),
        ("\x1b[31m", "\\x1b[31m"),
        (0.5, "0.5"), ("é", "é"), ("x" * 90, "x" * 80 + "..."), ("\udc80", "\\udc80"),
    ],
)  # fmt: skip
def test_a_value_is_shown_in_one_line(value: object, text: str) -> None:
    assert shown(value) == text
    assert printable(text) == text


@pytest.mark.parametrize(
    ("word", "near"), [("sgdd", "sgd"), ("SGD", "sgd"), ("adma", "adamw"), ("", None), ("qqqq", None)]
)
def test_the_nearest_choice(word: str, near: str | None) -> None:
    assert nearest(word, ["sgd", "adamw"]) == near


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("run.folde", "run.folder"), ("folder", "run.folder"), ("rum.folder", "run.folder"),
        ("rum.device", "run.device"),
        ("size", "a.size or b.size"), ("runn", "run"), ("qqqq", None), ("qqqq.zzzz", None),
        ("o.lr", "o.w.learning_rate or o.a.learning_rate"), ("run.lr", "o.w.learning_rate or o.a.learning_rate"),
        ("o.a.LR", "o.a.learning_rate"), ("run.qqq", None),
        ("o.learningrate", "o.w.learning_rate or o.a.learning_rate"),
    ],
)  # fmt: skip
def test_the_nearest_setting(key: str, near: str | None) -> None:
    settings = ["run", "run.folder", "run.device", "a", "a.size", "b", "b.size", "o", "o.w", "o.w.learning_rate", "o.a",
                "o.a.learning_rate"]  # fmt: skip
    assert nearest_setting(key, settings) == near
