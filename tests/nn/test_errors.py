"""What is refused, with the error and the words that users of PyTorch know."""

import numpy as np
import pytest

import tracejit as tj
import tracejit.nn.functional as F
from tracejit import data, nn, optim
from tracejit.optim import lr_scheduler


def ones(*shape):
    return tj.ones(shape)


def ints(*numbers):
    return tj.tensor(list(numbers))


def parameter():
    return tj.ones(2, requires_grad=True)


def sgd(**settings):
    return optim.SGD([parameter()], **{"lr": 0.1, **settings})


class Early(nn.Module):
    """Assigns before it calls ``Module.__init__``."""

    def __init__(self, item):
        self.item = item


LINEAR, ATTENTION = nn.Linear(2, 2), nn.MultiheadAttention(4, 2)
MODULES = [
    (lambda: Early(nn.Parameter(ones(1))), AttributeError, "cannot assign parameters before Module.__init__() call"),
    (lambda: Early(nn.ReLU()), AttributeError, "cannot assign module before Module.__init__() call"),
    (lambda: setattr(nn.Linear(2, 2), "weight", ones(2, 2)), TypeError,
     "cannot assign 'tracejit.Tensor' as parameter 'weight' (tracejit.nn.Parameter or None expected)"),
    (lambda: nn.Sequential().add_module("x", 3), TypeError, "cannot assign 'int' object to module 'x'"),
    (lambda: LINEAR.register_buffer("weight", ones(1)), KeyError, "attribute 'weight' already exists"),
    (lambda: LINEAR.register_buffer("a.b", ones(1)), KeyError, """buffer name can\\'t contain ".\""""),
    (lambda: LINEAR.register_parameter("", None), KeyError, "parameter name can\\'t be empty string"),
    (lambda: LINEAR.foo, AttributeError, "'Linear' object has no attribute 'foo'"),
    (lambda: nn.Module()(1), NotImplementedError, 'Module [Module] is missing the required "forward" function'),
    (lambda: LINEAR.train(3), ValueError, "training mode is expected to be boolean"),
    (lambda: LINEAR.to(tj.int64), TypeError,
     "nn.Module.to only accepts floating point or complex dtypes, but got desired dtype=int64"),
    (lambda: LINEAR.get_submodule("x.y"), AttributeError, "Linear has no attribute `x`"),
    (lambda: LINEAR.get_submodule("weight"), AttributeError, "`weight` is not an nn.Module"),
    (lambda: LINEAR.get_parameter("training"), AttributeError, "`training` is not an nn.Parameter"),
    (lambda: LINEAR.get_buffer("weight"), AttributeError, "`weight` is not a buffer"),
    (lambda: LINEAR.load_state_dict([1]), TypeError, "Expected state_dict to be dict-like, got <class 'list'>"),
    (lambda: LINEAR.load_state_dict({}), RuntimeError, 'Missing key(s) in state_dict: "weight", "bias". '),
    (lambda: LINEAR.load_state_dict({**LINEAR.state_dict(), "x": 1}), RuntimeError,
     'Unexpected key(s) in state_dict: "x". '),
    (lambda: LINEAR.load_state_dict({**LINEAR.state_dict(), "bias": ones(3)}), RuntimeError,
     "size mismatch for bias: copying a param with shape (3,) from checkpoint, the shape in current model is (2,)."),
    (lambda: nn.ModuleList()[0], IndexError, "index 0 is out of range"),
    (lambda: nn.ParameterList([1]), TypeError, "expected a Parameter or a Tensor, got int"),
]  # fmt: skip

LAYERS = [
    (lambda: nn.Linear(4, 5)(ones(2, 3)), RuntimeError, "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    (lambda: nn.Bilinear(2, 3, 4)(ones(5, 2), ones(6, 3)), RuntimeError, "input batch dimensions do not match"),
    (lambda: nn.Embedding(3, 2)(ints(3)), IndexError, "index out of range in self"),
    (lambda: nn.Embedding(3, 2)(ones(2)), RuntimeError, "to have one of the following scalar types: Long, Int"),
    (lambda: nn.Embedding(3, 2, 5), AssertionError, "Padding_idx must be within num_embeddings"),
    (lambda: nn.Embedding(3, 2, sparse=True), NotImplementedError, "there are no sparse gradients"),
    (lambda: nn.EmbeddingBag(3, 2)(ints(1, 2)), ValueError, "offsets has to be a 1D Tensor but got None"),
    (lambda: nn.EmbeddingBag(3, 2)(ints(1, 2), ints(1)), RuntimeError, "offsets[0] has to be 0"),
    (lambda: nn.EmbeddingBag(3, 2)(ints(1, 2), ints(0, 3)), RuntimeError, "offsets[-1] can not be greater than"),
    (lambda: nn.EmbeddingBag(3, 2)(tj.tensor([[1]]), ints(0)), ValueError,
     "if input is 2D, then offsets has to be None"),
    (lambda: F.embedding_bag(tj.tensor([[1]]), ones(3, 2), per_sample_weights=ones(1, 1)), NotImplementedError,
     "per_sample_weights is only supported for mode='sum' (got mode='mean')"),
    (lambda: nn.Conv2d(3, 4, 3)(ones(1, 2, 5, 5)), RuntimeError,
     "expected input[1, 2, 5, 5] to have 3 channels, but got 2 channels instead"),
    (lambda: nn.Conv2d(3, 4, 3)(ones(1, 3, 2, 2)), RuntimeError, "Kernel size can't be greater than actual input size"),
    (lambda: nn.Conv2d(3, 4, 3)(ones(5, 5)), RuntimeError, "Expected 3D (unbatched) or 4D (batched) input to conv2d"),
    (lambda: nn.Conv2d(3, 4, 3, groups=2), ValueError, "in_channels must be divisible by groups"),
    (lambda: nn.Conv2d(3, 4, 3, 2, "same"), ValueError, "padding='same' is not supported for strided convolutions"),
    (lambda: nn.Conv2d(3, 4, 3, padding="some"), ValueError, "Invalid padding string 'some'"),
    (lambda: nn.Conv2d(3, 4, 3, padding_mode="mirror"), ValueError, "padding_mode must be one of"),
    (lambda: F.max_pool2d(ones(1, 4, 4), 2, padding=2), RuntimeError, "pad should be at most half of effective kernel"),
    (lambda: F.max_pool2d(ones(1, 1, 1), 2), RuntimeError, "Given input size: (1x1x1). Output size is too small"),
    (lambda: F.avg_pool2d(ones(1, 4, 4), 2, divisor_override=0), RuntimeError, "divisor must be not zero"),
    (lambda: F.max_unpool1d(ones(1, 2), tj.tensor([[0, 9]]), 2), RuntimeError, "Found an invalid max index"),
    (lambda: F.max_unpool1d(ones(1, 2), tj.tensor([[0, 1]]), 2, output_size=(9,)), ValueError,
     "(dim 0 must be between 2 and 6)"),
    (lambda: F.interpolate(ones(1, 1, 4)), ValueError, "either size or scale_factor should be defined"),
    (lambda: F.interpolate(ones(1, 1, 4), 3, 2), ValueError, "only one of size or scale_factor should be defined"),
    (lambda: F.interpolate(ones(1, 1, 4), 3, mode="bilinear"), NotImplementedError,
     "Got 3D input, but bilinear mode needs 4D input"),
    (lambda: F.interpolate(ones(1, 1, 4), 3, align_corners=True), ValueError,
     "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear"),
    (lambda: F.interpolate(ones(1, 1, 4), (3, 3)), ValueError, "must have the same number of spatial dimensions"),
    (lambda: F.interpolate(ones(1, 4), 3), NotImplementedError, "Only 3D, 4D and 5D input Tensors supported (got 2D)"),
    (lambda: F.pixel_shuffle(ones(1, 3, 4, 4), 2), RuntimeError, "to be divisible by the square of upscale_factor"),
    (lambda: F.pixel_unshuffle(ones(1, 3, 5, 4), 2), RuntimeError, "to be divisible by downscale_factor"),
    (lambda: F.grid_sample(ones(1, 1, 2, 2), ones(1, 2, 2, 3)), RuntimeError, "expected grid to have size 2 in last"),
    (lambda: F.affine_grid(ones(1, 2, 2), (1, 1, 3, 3)), ValueError, "Expected a batch of 2D affine matrices of shape"),
    (lambda: F.pad(ones(2, 3), (1,)), RuntimeError, "Padding length must be divisible by 2"),
    (lambda: F.pad(ones(1, 3), (3, 3), "reflect"), RuntimeError,
     "Padding size should be less than the corresponding input dimension, but got: padding (3, 3) at dimension 1"),
    (lambda: F.pad(ones(1, 3), (4, 0), "circular"), RuntimeError,
     "Padding value causes wrapping around more than once"),
    (lambda: F.pad(ones(1, 3), (1, 1), "mirror"), NotImplementedError, "Unrecognised padding mode mirror"),
    (lambda: nn.ReflectionPad2d(1)(ones(3, 3)), ValueError, "expected 3D or 4D input (got 2D input)"),
    (lambda: F.unfold(ones(1, 1, 2, 2), 3), RuntimeError, "but its components must be at least one"),
    (lambda: F.fold(ones(1, 5, 4), (3, 3), 2), RuntimeError, "to be divisible by the product of kernel_size"),
    (lambda: F.fold(ones(1, 4, 5), (3, 3), 2), RuntimeError,
     "number of sliding blocks 2 * 2 = 4, but got input.size(2)=5"),
    (lambda: nn.Unflatten(1, (2, 4))(ones(2, 6)), RuntimeError, "Provided sizes [2, 4] don't multiply up to the size"),
    (lambda: nn.BatchNorm1d(3)(ones(1, 3)), ValueError, "Expected more than 1 value per channel when training"),
    (lambda: nn.BatchNorm1d(3)(ones(2, 4)), RuntimeError, "running_mean should contain 4 elements not 3"),
    (lambda: nn.BatchNorm2d(3)(ones(2, 3)), ValueError, "expected 4D input (got 2D input)"),
    (lambda: nn.InstanceNorm1d(3)(ones(2, 3, 1)), ValueError, "Expected more than 1 spatial element when training"),
    (lambda: nn.InstanceNorm1d(3, affine=True)(ones(2, 4, 5)), ValueError,
     "expected input's size at dim=1 to match num_features (3), but got: 4."),
    (lambda: nn.LayerNorm(3)(ones(2, 4)), RuntimeError, "Given normalized_shape=[3], expected input with shape [*, 3]"),
    (lambda: F.layer_norm(ones(2, 3), ()), RuntimeError, "Expected normalized_shape to be at least 1-dimensional"),
    (lambda: F.rms_norm(ones(2, 3), ()), RuntimeError, "Expected normalized_shape to be at least 1-dimensional"),
    (lambda: nn.GroupNorm(2, 3), ValueError, "num_channels (3) must be divisible by num_groups (2)"),
    (lambda: nn.GroupNorm(4, 4)(ones(1, 4)), ValueError, "Expected more than 1 value per channel when training"),
    (lambda: nn.LocalResponseNorm(2)(ones(2, 3)), ValueError, "Expected 3D or higher dimensionality input"),
    (lambda: nn.Dropout(2), ValueError, "dropout probability has to be between 0 and 1, but got 2"),
    (lambda: F.dropout2d(ones(2)), RuntimeError, "dropout2d: Expected 3D or 4D input, but received a 1D input"),
    (lambda: F.glu(ones(3)), RuntimeError, "Halving dimension must be even, but dimension 0 is size 3"),
    (lambda: F.prelu(ones(2, 3), ones(2)), RuntimeError, "Mismatch of parameter numbers and input channel size"),
    (lambda: F.rrelu(ones(2), 0.5, 0.2), RuntimeError, "Lower bound should be less than or equal to the upper bound"),
    (lambda: F.one_hot(ints(3), 2), RuntimeError, "Class values must be smaller than num_classes."),
    (lambda: nn.Softmax2d()(ones(2, 2)), ValueError, "Softmax2d: expected input to be 3D or 4D, got 2D instead"),
]  # fmt: skip

SEQUENCES = [
    (lambda: F.scaled_dot_product_attention(ones(2, 4), ones(3, 4), ones(3, 4), tj.ones(2, 3, dtype=tj.int64)),
     RuntimeError, "Expected attn_mask dtype to be bool or float or to match query dtype, but got attn_mask.dtype: "
     "int64 and query.dtype: float32"),
    (lambda: ATTENTION(ones(3, 4), ones(3, 4), ones(3, 4), attn_mask=tj.ones(3, 3, dtype=tj.int64)), AssertionError,
     "only bool and floating types of attn_mask are supported, got int64"),
    (lambda: ATTENTION(ones(3, 4), ones(3, 4), ones(3, 4), key_padding_mask=ints(0, 0, 1)), AssertionError,
     "only bool and floating types of key_padding_mask are supported, got int64"),
    (lambda: nn.LSTM(3, 4)(ones(5, 2, 2)), RuntimeError,
     "input.size(-1) must be equal to input_size. Expected 3, got 2"),
    (lambda: nn.LSTM(3, 4)(ones(5, 2, 3), (ones(1, 1, 4), ones(1, 1, 4))), RuntimeError,
     "Expected hidden[0] size (1, 2, 4), got [1, 1, 4]"),
    (lambda: nn.GRU(3, 4)(ones(5, 2, 3), ones(1, 1, 4)), RuntimeError, "Expected hidden size (1, 2, 4), got [1, 1, 4]"),
    (lambda: nn.LSTM(3, 4)(ones(5, 2, 3, 1)), ValueError, "LSTM: Expected input to be 2D or 3D, got 4D instead"),
    (lambda: nn.LSTM(3, 4)(ones(0, 2, 3)), RuntimeError, "Expected sequence length to be larger than 0 in RNN"),
    (lambda: nn.GRU(3, 4, proj_size=2), ValueError, "proj_size argument is only supported for LSTM, not RNN or GRU"),
    (lambda: nn.LSTM(3, 4, proj_size=4), ValueError, "proj_size has to be smaller than hidden_size"),
    (lambda: nn.RNN(3, 4, nonlinearity="sin"), ValueError, "Unknown nonlinearity 'sin'. Select from 'tanh' or 'relu'."),
    (lambda: nn.LSTM(3, 0), ValueError, "hidden_size must be greater than zero"),
    (lambda: nn.LSTM(3, 4, dropout=2), ValueError, "dropout should be a number in range [0, 1]"),
    (lambda: nn.LSTMCell(3, 4)(ones(2, 2)), RuntimeError, "input has inconsistent input_size: got 2 expected 3"),
    (lambda: nn.LSTMCell(3, 4)(ones(2, 2, 3)), ValueError, "LSTMCell: Expected input to be 1D or 2D, got 3D instead"),
    (lambda: nn.utils.rnn.pack_padded_sequence(ones(3, 2, 1), [1, 2]), RuntimeError,
     "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True"),
    (lambda: nn.utils.rnn.pack_padded_sequence(ones(3, 2, 1), [2, 0]), RuntimeError,
     "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0"),
    (lambda: nn.utils.rnn.pack_padded_sequence(ones(3, 2, 1), [2]), RuntimeError,
     "Expected `len(lengths)` to be equal to batch_size, but got 1 (batch_size=2)"),
    (lambda: nn.utils.rnn.pad_packed_sequence(nn.utils.rnn.pack_sequence([ones(2)]), total_length=1), ValueError,
     "got total_length=1 and max sequence length being 2"),
    (lambda: nn.MultiheadAttention(5, 2), AssertionError, "embed_dim must be divisible by num_heads"),
    (lambda: nn.MultiheadAttention(4, 2)(*[ones(3, 2, 5)] * 3), AssertionError,
     "was expecting embedding dimension of 4, but got 5"),
    (lambda: nn.MultiheadAttention(4, 2)(*[ones(3, 2, 4)] * 3, attn_mask=ones(2, 2)), RuntimeError,
     "The shape of the 2D attn_mask is (2, 2), but should be (3, 3)."),
    (lambda: nn.MultiheadAttention(4, 2)(ones(3, 2, 4), ones(3, 2, 4), ones(2, 2, 4)), AssertionError,
     "key's sequence and batch dims (3, 2) do not match value's (2, 2)"),
    (lambda: nn.Transformer(8, 2, 1, 1, 8)(ones(3, 2, 8), ones(3, 3, 8)), RuntimeError,
     "the batch number of src and tgt must be equal"),
    (lambda: nn.Transformer(8, 2, 1, 1, 8)(ones(3, 2, 7), ones(3, 2, 7)), RuntimeError,
     "the feature number of src and tgt must be equal to d_model"),
    (lambda: nn.TransformerEncoderLayer(4, 2, activation="sin"), RuntimeError,
     "activation should be relu/gelu, not sin"),
    (lambda: F.scaled_dot_product_attention(*[ones(2, 3)] * 3, ones(2, 2), is_causal=True), RuntimeError,
     "Explicit attn_mask should not be set when is_causal=True"),
]  # fmt: skip

LOSSES = [
    (lambda: F.cross_entropy(ones(4, 3), ints(0, 1, 2)), ValueError,
     "Expected input batch_size (4) to match target batch_size (3)."),
    (lambda: F.cross_entropy(ones(3, 3), ints(0, 1, 7)), IndexError, "Target 7 is out of bounds."),
    (lambda: F.cross_entropy(ones(1, 3), tj.tensor([1.0])), RuntimeError, "expected scalar type Long but found Float"),
    (lambda: F.cross_entropy(ones(1, 3), ints(0), reduction="avg"), ValueError,
     "avg is not a valid value for reduction"),
    (lambda: F.cross_entropy(ones(1, 3), ints(0), ones(2)), RuntimeError,
     "weight tensor should be defined either for all 3 classes or no classes"),
    (lambda: F.cross_entropy(ones(1, 3), ints(0), label_smoothing=2.0), RuntimeError,
     "label_smoothing must be between 0.0 and 1.0. Got: 2.0"),
    (lambda: F.binary_cross_entropy(ones(3) * 2, ones(3)), RuntimeError,
     "all elements of input should be between 0 and 1"),
    (lambda: F.binary_cross_entropy(ones(3), ones(2)), ValueError, "that is different to the input size"),
    (lambda: F.binary_cross_entropy_with_logits(ones(3), ones(2)), ValueError, "must be the same as input size"),
    (lambda: F.gaussian_nll_loss(ones(3), ones(3), -ones(3)), ValueError, "var has negative entry/entries"),
    (lambda: F.ctc_loss(ones(4, 2, 3), tj.ones((2, 2), dtype=tj.int64), (5, 4), (2, 2)), RuntimeError,
     "Expected input_lengths to have value at most 4"),
    (lambda: F.ctc_loss(ones(4, 2, 3), tj.ones((2, 2), dtype=tj.int64), (4,), (2, 2)), RuntimeError,
     "input_lengths must be of size batch_size"),
    (lambda: F.ctc_loss(ones(4, 2, 3), tj.ones((2, 2), dtype=tj.int64), (4, 4), (2, 2), 3), RuntimeError,
     "blank must be in label range"),
    (lambda: nn.MultiMarginLoss(3), ValueError, "only p == 1 and p == 2 supported"),
    (lambda: F.multi_margin_loss(ones(2, 3), ints(0, 3)), IndexError, "target out of range"),
    (lambda: nn.TripletMarginLoss(-1), ValueError, "expected margin to be greater than 0, got -1 instead"),
    (lambda: F.smooth_l1_loss(ones(2), ones(2), beta=-1), RuntimeError, "does not support negative values for beta"),
    (lambda: F.huber_loss(ones(2), ones(2), delta=-1), RuntimeError, "does not support non-positive values for delta"),
]  # fmt: skip

TRAINING = [
    (lambda: optim.Adam([parameter()], rate=1), TypeError, "got an unexpected keyword argument 'rate'"),
    (lambda: optim.Adam([parameter()], differentiable=True), NotImplementedError, "a step cannot be differentiated"),
    (lambda: optim.Adam([tj.tensor([1j], requires_grad=True)]), NotImplementedError,
     "cannot update complex parameters"),
    (lambda: optim.Adadelta([parameter()], rho=2), ValueError, "Invalid rho value: 2"),
    (lambda: optim.Rprop([parameter()], etas=(2, 1)), ValueError, "Invalid eta values: 2, 1"),
    (lambda: optim.NAdam([parameter()], momentum_decay=-1), ValueError, "Invalid momentum_decay value: -1"),
    (lambda: optim.LBFGS([{"params": [parameter()]}, {"params": [parameter()]}]), ValueError,
     "LBFGS doesn't support per-parameter options (parameter groups)"),
    (lambda: optim.LBFGS([parameter()]).step(), TypeError, "missing 1 required positional argument: 'closure'"),
    (lambda: optim.LBFGS([parameter()], line_search_fn="armijo"), RuntimeError, "only 'strong_wolfe' is supported"),
    (lambda: lr_scheduler.StepLR(3, 2), TypeError, "int is not an Optimizer"),
    (lambda: lr_scheduler.LambdaLR(sgd(), [lambda t: 1] * 2), ValueError, "Expected 1 lr_lambdas, but got 2"),
    (lambda: lr_scheduler.CosineAnnealingWarmRestarts(sgd(), 0), ValueError,
     "Expected positive integer T_0, but got 0"),
    (lambda: lr_scheduler.CosineAnnealingWarmRestarts(sgd(), 1).step(-1), ValueError, "Expected non-negative epoch"),
    (lambda: lr_scheduler.CyclicLR(optim.Adagrad([parameter()]), 0.1, 1.0), ValueError,
     "optimizer must support momentum or beta1 with `cycle_momentum` option enabled"),
    (lambda: lr_scheduler.CyclicLR(sgd(), 0.1, 1.0, mode="sine"), ValueError, "mode is invalid and scale_fn is None"),
    (lambda: lr_scheduler.ConstantLR(sgd(), 2.0), ValueError, "expected to be between 0 and 1."),
    (lambda: lr_scheduler.ReduceLROnPlateau(sgd(), factor=2.0), ValueError, "Factor should be < 1.0."),
    (lambda: lr_scheduler.StepLR(sgd(), 2, last_epoch=3), KeyError, "is not specified in param_groups[0]"),
    (lambda: lr_scheduler.OneCycleLR(sgd(), 1.0), ValueError, "You must define either total_steps OR"),
    (lambda: lr_scheduler.ChainedScheduler([]), ValueError,
     "ChainedScheduler expects at least one scheduler to be chained"),
    (lambda: lr_scheduler.SequentialLR(sgd(), [lr_scheduler.ReduceLROnPlateau(sgd())], []), ValueError,
     "SequentialLR does not support ReduceLROnPlateau, but got one at index 0"),
    (lambda: nn.utils.parametrize.register_parametrization(nn.Linear(2, 2), "foo", nn.Identity()), ValueError,
     "does not have a parameter, a buffer, or a parametrized element with name 'foo'"),
    (lambda: nn.utils.parametrize.register_parametrization(nn.Linear(2, 3), "weight", nn.Flatten(0)), ValueError,
     "Registering a parametrization may not change the shape or dtype of the tensor"),
    (lambda: nn.utils.parametrize.remove_parametrizations(nn.Linear(2, 2), "weight"), ValueError,
     "does not have a parametrization on weight"),
    (lambda: nn.utils.vector_to_parameters(ones(3), nn.Linear(2, 2).parameters()), RuntimeError,
     "expected a vector of 6 elements, got shape [3]"),
    (lambda: nn.utils.stateless.functional_call(LINEAR, {"w": ones(1)}, ones(1, 2)), RuntimeError,
     "Unexpected key(s): w."),
    (lambda: nn.utils.stateless.functional_call(LINEAR, {}, ones(1, 2), strict=True), RuntimeError,
     "Missing key(s): weight, bias."),
    (lambda: nn.init.kaiming_uniform_(ones(2)), ValueError, "for tensor with fewer than 2 dimensions"),
    (lambda: nn.init.calculate_gain("sine"), ValueError, "Unsupported nonlinearity sine"),
    (lambda: data.StackDataset(), ValueError, "Supported either ``tuple``- (via ``args``) or ``dict``-"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "words"), MODULES + LAYERS + SEQUENCES + LOSSES + TRAINING)
def test_what_is_refused(call, error, words):
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
    assert caught.type is error


def test_dropout_between_layers_needs_layers():
    with pytest.warns(UserWarning, match=r"non-zero dropout expects num_layers greater than 1, but got dropout=0\.5"):
        nn.LSTM(3, 4, dropout=0.5)


def test_features_that_do_not_count_warn():
    with pytest.warns(UserWarning, match="does not match num_features"):
        nn.InstanceNorm1d(3)(tj.tensor(np.arange(8.0).reshape(1, 4, 2)))
