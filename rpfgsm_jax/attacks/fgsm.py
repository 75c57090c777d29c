"""The iterative FGSM family: U-, R-, L-, P- and E-FGSM; they differ in the class they speak of.

All take signed steps of `step_size` inside the eps-ball, Sanchez-Matilla et al. (2020), Eq. 9-11,
N = floor(min(1.25 eps, eps + 4)) of them: 20 for eps = 16. They begin at the image itself unless
`random_start` asks for another point of the ball.
"""

from rpfgsm_jax.attacks.signed import signed_attack
from rpfgsm_jax.attacks.targets import draw_other, draw_target, least_likely

u_fgsm = signed_attack(
  "u_fgsm",
  doc="""Leaves the predicted class of one network: the basic iterative method, untargeted.

Kurakin et al. (2017), "Adversarial examples in the physical world"; U-FGSM in Sanchez-Matilla et
al. (2020). With `random_start` it is the PGD of Madry et al. (2018).

Example:
  >>> result = rp.u_fgsm(jax.random.key(0), images, [rp.load_classifier("scenes25/resnet50")])
  >>> int(result.gradient_evaluations[0])
  20
""",
)

r_fgsm = signed_attack(
  "r_fgsm",
  aim=draw_other,
  doc="""Approaches a class drawn from all that the network does not predict, on one network.

Kurakin et al. (2017), "Adversarial machine learning at scale"; R-FGSM in Sanchez-Matilla et al.
(2020). The true class may be drawn where the network was wrong.
""",
)

l_fgsm = signed_attack(
  "l_fgsm",
  aim=least_likely,
  doc="""Approaches the least likely class of one network.

Kurakin et al. (2017), "Adversarial examples in the physical world"; L-FGSM in Sanchez-Matilla et
al. (2020). Whoever knows the attack can guess the original class from the protected image's.
""",
)

p_fgsm = signed_attack(
  "p_fgsm",
  aim=draw_target,
  doc="""Approaches a class drawn by Eq. 17 from the unlikely ones of one network.

Li et al. (2019), "Scene privacy protection": the true class is rarely among the candidates. The
result's `gamma` is the one that left a candidate, see `rp_fgsm`.

Note:
  The authors' release overwrites its candidates, so that gamma has no effect there; here it has.
""",
)

e_fgsm = signed_attack(
  "e_fgsm",
  networks="ensemble",
  aim=draw_other,
  doc="""Approaches one random class on all K networks at each iteration, by their summed gradients.

Tramer et al. (2018); E-FGSM, Eq. 13, in Sanchez-Matilla et al. (2020). K gradients an iteration;
the class is drawn from all that no network predicts.
""",
)
