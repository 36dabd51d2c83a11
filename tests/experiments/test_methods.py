"""The U-Net and classifiers go through a run by their own functions."""

from attnmel_jax.evaluation import predict
from attnmel_jax.experiments import classification
from attnmel_jax.experiments import methods
from attnmel_jax.experiments import segmentation
from attnmel_jax.models import unet
from attnmel_jax.training import segmentation as segmentation_step
from attnmel_jax.training import step as step_lib
from configs import isic2018_task1


def test_a_classifier_is_told_from_a_unet(config):
  classifier = methods.create(config, ('other', 'melanoma'))
  assert classifier.training_step.func is step_lib.train_step
  assert classifier.predict.func is predict.predict
  assert classifier.selection_score is classification.selection_score
  assert classifier.decisions(None) == {'threshold': 0.5, 'temperature': None}
  drawing = methods.create(isic2018_task1.get_config().to_dict() | {'width': 0.25}, ())
  assert drawing.training_step.func is segmentation_step.train_step
  model = drawing.training_step.keywords['model']
  assert isinstance(model, unet.UNet)
  assert (model.depth, model.width) == (4, 0.25)
  assert drawing.selection_score is segmentation.selection_score


def test_what_is_decided_by_validation(config):
  assert methods.create(config, ('a', 'b', 'c')).decisions(None) == {
      'threshold': None, 'temperature': None}
  drawing = methods.create(isic2018_task1.get_config().to_dict(), ())
  assert drawing.decisions(None) == {'threshold': 0.5, 'temperature': None}
